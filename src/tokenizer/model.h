// Models: from the pieces of a pre-tokenizer to token ids.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

#include "tokenizer/json_access.h"
#include "tokenizer/piece_sink.h"
#include "tokenizer/string_table.h"

namespace ondol::tokenization {

/// Encodes pieces for one thread at a time; keeps caches from text to text.
class PieceEncoder : public PieceSink {
 public:
  /// Where piece() appends its ids.
  void set_output(std::vector<int32_t>* ids) { ids_ = ids; }

 protected:
  std::vector<int32_t>* ids_ = nullptr;
};

class Model {
 public:
  virtual ~Model() = default;
  /// The vocabulary as tokenizer.json writes it, without added tokens that are not part of it.
  virtual const StringTable& vocabulary() const = 0;
  virtual std::unique_ptr<PieceEncoder> new_encoder() const = 0;
  /// The "model" part of tokenizer.json, written out, with further tokens in its vocabulary.
  virtual std::string to_json(std::span<const AddedToken> further_tokens) const = 0;
};

}  // namespace ondol::tokenization
