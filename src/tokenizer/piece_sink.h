// Where pre-tokenizers send the pieces of a text, in order.
#pragma once

#include <string_view>

namespace ondol::tokenization {

class PieceSink {
 public:
  virtual ~PieceSink() = default;
  /// The bytes are valid during the call only. Never called with an empty piece.
  virtual void piece(std::string_view text) = 0;
};

}  // namespace ondol::tokenization
