// UTF-8 decoding that never loses a byte: an invalid byte is one unit of its own, reported as kInvalidCodePoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ondol::tokenization {

inline constexpr uint32_t kInvalidCodePoint = 0xffffffffu;

struct CodePoint {
  uint32_t value;
  uint32_t length;  // bytes; 1 when invalid
};

/// Decodes the code point at p (p < end). Overlong forms, surrogates and values above U+10FFFF are invalid.
inline CodePoint decode_code_point(const uint8_t* p, const uint8_t* end) {
  const uint32_t lead = p[0];
  const auto continuation = [&](size_t i) { return (p[i] & 0xc0u) == 0x80u; };
  if (lead < 0x80) return {lead, 1};
  const size_t left = static_cast<size_t>(end - p);
  if (lead >= 0xc2 && lead < 0xe0 && left >= 2 && continuation(1)) {
    return {((lead & 0x1fu) << 6) | (p[1] & 0x3fu), 2};
  }
  if ((lead & 0xf0u) == 0xe0 && left >= 3 && continuation(1) && continuation(2)) {
    const uint32_t value = ((lead & 0x0fu) << 12) | ((p[1] & 0x3fu) << 6) | (p[2] & 0x3fu);
    if (value >= 0x800 && (value < 0xd800 || value > 0xdfff)) return {value, 3};
  }
  if (lead >= 0xf0 && lead < 0xf5 && left >= 4 && continuation(1) && continuation(2) && continuation(3)) {
    const uint32_t value = ((lead & 0x07u) << 18) | ((p[1] & 0x3fu) << 12) | ((p[2] & 0x3fu) << 6) | (p[3] & 0x3fu);
    if (value >= 0x10000 && value <= 0x10ffff) return {value, 4};
  }
  return {kInvalidCodePoint, 1};
}

inline CodePoint decode_code_point(std::string_view text, size_t position) {
  const auto* begin = reinterpret_cast<const uint8_t*>(text.data());
  return decode_code_point(begin + position, begin + text.size());
}

inline bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_code_point(text, i);
    if (c.value == kInvalidCodePoint) return false;
    i += c.length;
  }
  return true;
}

inline void append_utf8(uint32_t value, std::string& out) {
  if (value < 0x80) {
    out += static_cast<char>(value);
  } else if (value < 0x800) {
    out += static_cast<char>(0xc0 | (value >> 6));
    out += static_cast<char>(0x80 | (value & 0x3f));
  } else if (value < 0x10000) {
    out += static_cast<char>(0xe0 | (value >> 12));
    out += static_cast<char>(0x80 | ((value >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (value & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (value >> 18));
    out += static_cast<char>(0x80 | ((value >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((value >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (value & 0x3f));
  }
}

/// The number of bytes at the end of text that begin a character whose remaining bytes have not arrived (0 to 3).
inline size_t incomplete_utf8_suffix(std::string_view text) {
  for (size_t length = 1; length <= 3 && length <= text.size(); ++length) {
    const auto byte = static_cast<uint8_t>(text[text.size() - length]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t expected = byte >= 0xf0 && byte < 0xf5   ? 4
                            : byte >= 0xe0 && byte < 0xf0 ? 3
                            : byte >= 0xc2 && byte < 0xe0 ? 2
                                                          : 1;
    return expected > length ? length : 0;
  }
  return 0;
}

}  // namespace ondol::tokenization
