#include "models/name_pattern.h"

#include <algorithm>

namespace ondol {

namespace {

/// Shell patterns with * and ?; linear in both texts but for the last *.
bool glob_matches(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, retry = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
      ++p;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

/// Whether the pattern matches the text from the beginning of one of its components to its end, or, when `inside`, to
/// the end of any component.
bool matches_from_component(const std::string& pattern, const std::string& name, bool inside) {
  const std::string longer = pattern + ".*";
  for (size_t begin = 0; begin != std::string::npos && begin <= name.size();) {
    const std::string_view rest = std::string_view(name).substr(begin);
    if (glob_matches(pattern, rest) || (inside && glob_matches(longer, rest))) return true;
    const size_t dot = name.find('.', begin);
    begin = dot == std::string::npos ? dot : dot + 1;
  }
  return false;
}

}  // namespace

std::vector<std::string> name_components(const std::string& name) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

bool name_matches(const std::string& pattern, const std::string& name) {
  return matches_from_component(pattern, name, true);
}

bool name_ends_with(const std::string& pattern, const std::string& name) {
  return matches_from_component(pattern, name, false);
}

}  // namespace ondol
