// Decoders: the text of one token after another.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/json_access.h"

namespace ondol::tokenization {

class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Appends what the token (its text in the vocabulary) adds; `first` is true for the first token of a sequence.
  virtual void append(std::string_view token, bool first, std::string& out) const = 0;
};

/// From the "decoder" part of tokenizer.json. Throws UsageError for a type that is not supported.
std::unique_ptr<Decoder> make_decoder(const Json& spec, const std::string& file);

}  // namespace ondol::tokenization
