// 128 bits of a content, for finding equal ones: two chains that mix the same words with different constants.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "tokenizer/hashing.h"

namespace ondol::clean {

class ContentHash {
 public:
  void add(uint64_t word) {
    first_ = tokenization::fold_multiply(first_ ^ word, 0x9e3779b97f4a7c15u) + word;
    second_ = tokenization::fold_multiply(second_ + word, 0xc2b2ae3d27d4eb4fu) ^ (word << 32 | word >> 32);
    ++count_;
  }
  std::array<uint64_t, 2> value() const {
    return {tokenization::hash_words(first_, count_ ^ second_),
            tokenization::hash_words(second_ ^ 0x2545f4914f6cdd1du, first_ + count_)};
  }

 private:
  uint64_t first_ = 0x243f6a8885a308d3u, second_ = 0x13198a2e03707344u;
  uint64_t count_ = 0;
};

inline std::array<uint64_t, 2> content_hash(std::string_view bytes) {
  ContentHash hash;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) hash.add(tokenization::load_u64(bytes.data() + i));
  uint64_t tail = bytes.size() << 56;
  for (size_t j = 0; i + j < bytes.size(); ++j) tail |= uint64_t{static_cast<uint8_t>(bytes[i + j])} << (8 * j);
  hash.add(tail);
  return hash.value();
}

}  // namespace ondol::clean
