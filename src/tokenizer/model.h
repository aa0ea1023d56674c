// Models: from the pieces of a pre-tokenizer to token ids.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ondol/tokenizer/tokenizer.h>

#include "tokenizer/json_access.h"
#include "tokenizer/string_table.h"

namespace ondol::tokenization {

/// Takes the tokens of a piece; their places in it only when they are asked for.
struct TokenSink {
  struct Range {
    size_t begin, end;
  };
  std::vector<int32_t>& ids;
  std::vector<Range>* ranges = nullptr;

  void add(int32_t id, size_t begin, size_t end) {
    ids.push_back(id);
    if (ranges != nullptr) ranges->push_back({begin, end});
  }
  void resize(size_t count) {
    if (ranges != nullptr) ranges->resize(ranges->size() - (ids.size() - count));
    ids.resize(count);
  }
};

class Model {
 public:
  virtual ~Model() = default;
  /// The vocabulary as tokenizer.json writes it, without added tokens that are not part of it.
  virtual const StringTable& vocabulary() const = 0;
  /// Appends the tokens of one (not empty) piece. Safe to call from several threads.
  virtual void encode(std::string_view piece, TokenSink& out) const = 0;
  /// True when pieces are to hold the bytes themselves, not their spelling in the byte alphabet.
  virtual bool takes_bytes() const { return false; }
  /// When pieces may be cut before every run of this text without a change of their tokens: the text. Otherwise empty.
  virtual std::string_view word_marker() const { return {}; }
  /// The "model" part of tokenizer.json, written out, with further tokens in its vocabulary.
  virtual std::string to_json(std::span<const AddedToken> further_tokens) const = 0;
};

/// Writes {"token":id,…} for the "model" part.
std::string vocabulary_json(const StringTable& vocabulary, std::span<const AddedToken> further_tokens);
std::string quoted_json(std::string_view text);

}  // namespace ondol::tokenization
