// Lines, words between white space and characters of a text.
#pragma once

#include <cstdint>
#include <string_view>

#include "tokenizer/unicode.h"

namespace ondol::clean {

inline bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// The bytes of the white-space character at `position`, 0 when it is another.
inline size_t space_length(std::string_view text, size_t position) {
  const auto byte = static_cast<uint8_t>(text[position]);
  if (byte < 0x80) return is_ascii_space(text[position]) ? 1 : 0;
  if (byte != 0xc2 && byte != 0xe1 && byte != 0xe2 && byte != 0xe3) return 0;  // where such characters begin
  const tokenization::CodePoint c = tokenization::decode_code_point(text, position);
  return c.value <= 0x10ffff && tokenization::is_white_space(c.value) ? c.length : 0;
}

/// Calls `word(part)` for each run of characters between white space.
template <class Function>
void for_each_spaced_word(std::string_view text, const Function& word) {
  size_t begin = 0, i = 0;
  while (i < text.size()) {
    const size_t space = space_length(text, i);
    if (space == 0) {
      ++i;
      continue;
    }
    if (i > begin) word(text.substr(begin, i - begin));
    i += space;
    begin = i;
  }
  if (i > begin) word(text.substr(begin, i - begin));
}

/// Without white space at both ends.
inline std::string_view trimmed(std::string_view text) {
  while (!text.empty()) {
    const size_t space = space_length(text, 0);
    if (space == 0) break;
    text.remove_prefix(space);
  }
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<uint8_t>(text[last]) & 0xc0) == 0x80 && text.size() - last < 4) --last;
    const size_t space = space_length(text, last);
    if (space == 0 || last + space != text.size()) break;
    text.remove_suffix(space);
  }
  return text;
}

/// Calls `line(part)` for each line, trimmed, that is not empty.
template <class Function>
void for_each_line(std::string_view text, const Function& line) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view part = trimmed(text.substr(0, end));
    if (!part.empty()) line(part);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
}

/// Code points; bytes that are no UTF-8 count one each or join what stands before them.
inline int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<uint8_t>(c) & 0xc0) != 0x80;
  return count;
}

}  // namespace ondol::clean
