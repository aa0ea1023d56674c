#include <ondol/train/text_encoder.h>

#include <algorithm>

#include <ondol/base/error.h>
#include <ondol/train/vocabulary.h>

#include "base/fnv1a.h"

namespace ondol {

namespace {

constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};

uint64_t fingerprint(const Tokenizer& tokenizer) {
  constexpr std::string_view kProbe =
      "The quick brown fox, naïve café; 1234567 + 89.01 = x_y\n\n  def f(a):\n\treturn a**2  # 한국어 中文 "
      "Ünïcödé don't WON'T\r\nhttps://example.org/?q=1&r=2 <|endoftext|> …";
  constexpr uint64_t kEnd = 0xFF;  // of a string: no byte of UTF-8
  Fnv1a<uint64_t> hash;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) hash.add(tokenizer.id_to_token(id)).add_unit(kEnd);
  for (const int32_t id : tokenizer.encode(kProbe, kPlain)) hash.add(std::to_string(id)).add_unit(kEnd);
  return hash.value();
}

/// Whether text may be cut after a line break: seen on pairs of the kinds of characters that rules of tokenizers name.
bool splits_at_newlines(const Tokenizer& tokenizer) {
  const std::string_view kinds[] = {"word", "WORD",   "42",   "end.", "\"q\"", "x)",
                                    "été",  "한국어", "中文", "…",    "-",     "'s"};
  for (const std::string_view left : kinds) {
    for (const std::string_view right : kinds) {
      const std::string head = concat(left, "\n");
      std::vector<int32_t> parts = tokenizer.encode(head, kPlain);
      const std::vector<int32_t> tail = tokenizer.encode(right, kPlain);
      parts.insert(parts.end(), tail.begin(), tail.end());
      if (parts != tokenizer.encode(concat(head, right), kPlain)) return false;
    }
  }
  return true;
}

}  // namespace

TextEncoder make_text_encoder(const Tokenizer& tokenizer) {
  TextEncoder encoder;
  encoder.encode = [tokenizer](std::span<const std::string> texts, std::vector<std::vector<int32_t>>& ids) {
    ids = tokenizer.encode_batch(texts, kPlain);
  };
  encoder.vocab_size = tokenizer.vocab_size();
  encoder.fingerprint = fingerprint(tokenizer);
  // The frame of a document is what the tokenizer puts around a text (<s> ...; [CLS] ... [SEP]); its end token in any
  // case.
  const TextFrame frame = text_frame(tokenizer);
  encoder.bos_id = frame.begin.value_or(-1);
  encoder.eos_id = frame.end.value_or(tokenizer.special_token_id("eos").value_or(-1));
  encoder.splits_at_newlines = splits_at_newlines(tokenizer);
  return encoder;
}

}  // namespace ondol
