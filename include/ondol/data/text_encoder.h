// What the data layer needs of a tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace ondol {

struct TextEncoder {
  /// Token ids of each text, in order; expected to use the thread pool. No end-of-document token is expected of it.
  std::function<void(std::span<const std::string> texts, std::vector<std::vector<int32_t>>& ids)> encode;
  int64_t vocab_size = 0;
  /// Differs between tokenizers that give different ids; 0 is "unknown" and matches every prepared file.
  uint64_t fingerprint = 0;
  int32_t bos_id = -1;  // put before each document; -1: none
  int32_t eos_id = -1;  // put after each document; -1: none
  /// True when encode(a + "\n" + b) is encode(a + "\n") followed by encode(b) for a and b that neither end nor begin
  /// with white space (byte-level BPE and WordPiece). Long documents are then encoded in parallel pieces.
  bool splits_at_newlines = false;
};

}  // namespace ondol
