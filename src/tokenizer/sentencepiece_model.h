// SentencePiece .model files: the protocol buffer ModelProto of sentencepiece_model.proto.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

namespace ondol::tokenization {

struct SentencePieceModel {
  SentencePieceParts parts;  // without roles, added tokens and template
  // Ids of roles, -1: none.
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  std::string unk_surface = " \u2047 ";  // what unknown tokens are decoded to
};

/// Throws UsageError for damaged files and for models that are neither unigram nor bpe.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& name);

}  // namespace ondol::tokenization
