// Encodes the pieces of a pre-tokenizer with a model, for one thread at a time.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/model.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/piece_sink.h"

namespace ondol::tokenization {

/// Keeps the tokens of short pieces from text to text.
class PieceEncoder final : public PieceSink {
 public:
  explicit PieceEncoder(const Model& model) : model_(model), marker_(model.word_marker()) {}

  /// Where piece() appends its ids.
  void set_output(std::vector<int32_t>* ids) { ids_ = ids; }

  void piece(std::string_view text) override {
    if (!marker_.empty() && text.size() > marker_.size()) {
      encode_words(text);
    } else {
      encode(text);
    }
  }

 private:
  void encode(std::string_view text);
  void encode_words(std::string_view text);

  const Model& model_;
  std::string_view marker_;
  PieceCache cache_;
  std::vector<int32_t>* ids_ = nullptr;
};

}  // namespace ondol::tokenization
