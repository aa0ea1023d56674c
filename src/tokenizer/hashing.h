// Hashes of the tokenizer's own tables.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace ondol::tokenization {

inline uint64_t load_u64(const char* p) {
  uint64_t value;
  std::memcpy(&value, p, 8);
  return value;
}

/// Both halves of the 128-bit product folded into one word.
inline uint64_t fold_multiply(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t hash_words(uint64_t a, uint64_t b) {
  return fold_multiply(a ^ 0x9e3779b97f4a7c15u, b ^ 0xc2b2ae3d27d4eb4fu);
}

/// A short text as two words that, with its length (at most 16), determine it.
struct ShortKey {
  uint64_t low, high;
};
inline ShortKey short_key(const char* p, size_t length) {
  if (length >= 8) return {load_u64(p), load_u64(p + length - 8)};
  if (length >= 4) {
    uint32_t first, last;
    std::memcpy(&first, p, 4);
    std::memcpy(&last, p + length - 4, 4);
    return {first, last};
  }
  if (length == 0) return {0, 0};
  const auto byte = [p](size_t i) { return uint64_t{static_cast<uint8_t>(p[i])}; };
  return {byte(0), byte(length >> 1) << 8 | byte(length - 1)};
}

inline uint64_t hash_bytes(std::string_view text) {
  uint64_t state = 0x2545f4914f6cdd1du ^ text.size();
  const char* p = text.data();
  size_t left = text.size();
  for (; left > 16; left -= 16, p += 16) state = hash_words(load_u64(p) ^ state, load_u64(p + 8));
  const ShortKey key = short_key(p, left);
  return hash_words(key.low ^ state, key.high + left);
}

}  // namespace ondol::tokenization
