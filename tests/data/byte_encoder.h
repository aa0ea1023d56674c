// A tokenizer for tests: one token a byte, id = byte, end of document 256.
#pragma once

#include <ondol/data/text_encoder.h>

namespace ondol::testing {

inline TextEncoder byte_encoder(int64_t vocab_size = 257, uint64_t fingerprint = 11) {
  TextEncoder encoder;
  encoder.encode = [](std::span<const std::string> texts, std::vector<std::vector<int32_t>>& ids) {
    for (const std::string& text : texts) {
      auto& tokens = ids.emplace_back();
      for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    }
  };
  encoder.vocab_size = vocab_size;
  encoder.fingerprint = fingerprint;
  encoder.eos_id = 256;
  encoder.splits_at_newlines = true;
  return encoder;
}

}  // namespace ondol::testing
