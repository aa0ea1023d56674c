// A tokenizer with one token a byte (id = byte) and the special tokens of ChatML: <|im_start|> 256, <|im_end|> 257,
// which ends and pads, too.
#pragma once

#include <ondol/tokenizer/tokenizer.h>

#include "tokenizer/byte_alphabet.h"

namespace ondol::testing {

inline constexpr int32_t kTurnStart = 256, kTurnEnd = 257;

inline Tokenizer byte_tokenizer(const std::string& chat_template = {}) {
  ByteLevelBpeParts parts;
  for (int byte = 0; byte < 256; ++byte) {
    parts.tokens.push_back(tokenization::to_byte_alphabet(std::string(1, static_cast<char>(byte))));
  }
  for (const auto& [id, content] : {std::pair{kTurnStart, "<|im_start|>"}, std::pair{kTurnEnd, "<|im_end|>"}}) {
    parts.tokens.emplace_back(content);
    parts.added_tokens.push_back({.id = id, .content = content, .special = true});
  }
  parts.special_tokens = {{"eos", "<|im_end|>"}, {"pad", "<|im_end|>"}};
  parts.chat_template = chat_template;
  return make_byte_level_bpe_tokenizer(parts, "bytes");
}

inline constexpr const char* kChatMl =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

}  // namespace ondol::testing
