// Checks of option values that the command-line library does not make.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <string>

#include <CLI/App.hpp>

/// A decimal integer that fits Integer and is at least `low`; what is too large would be taken as the largest, and a
/// negative one for an unsigned option as a large one.
template <class Integer>
CLI::Validator whole_number(Integer low = std::numeric_limits<Integer>::min()) {
  return CLI::Validator(
      [low](const std::string& text) -> std::string {
        Integer value = 0;
        const char* const end = text.data() + text.size();
        const auto [next, error] = std::from_chars(text.data(), end, value);
        if (error == std::errc::result_out_of_range) return text + " is out of range";
        if (error != std::errc{} || next != end) return "not a whole number: " + text;
        if (value < low) return "must be at least " + std::to_string(low) + ", got " + text;
        return "";
      },
      "N");
}

/// Of names of files and directories.
inline CLI::Validator not_empty() {
  return CLI::Validator([](const std::string& text) { return std::string(text.empty() ? "must not be empty" : ""); },
                        "");
}
