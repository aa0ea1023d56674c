// Text as the reference implementations of the metrics take it apart (Python's str).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ondol::metrics {

/// An invalid byte counts as the code point of its value.
std::vector<uint32_t> code_points(std::string_view text);
std::string to_utf8(const std::vector<uint32_t>& text);

/// str.isspace: white space and the four information separators.
bool is_space(uint32_t code_point);
/// \w: letters, numbers and the underscore, but no marks.
bool is_word(uint32_t code_point);
/// string.punctuation.
bool is_ascii_punctuation(uint32_t code_point);

/// str.lower, with the final sigma and the two code points of U+0130.
std::vector<uint32_t> lowercase(const std::vector<uint32_t>& text);

/// str.split: the words between white space.
std::vector<std::string> split(std::string_view text);
std::vector<std::vector<uint32_t>> split(const std::vector<uint32_t>& text);

}  // namespace ondol::metrics
