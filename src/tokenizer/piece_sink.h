// Where pre-tokenizers send the pieces of a text, in order.
#pragma once

#include <string_view>

namespace ondol::tokenization {

class OriginStack;

class PieceSink {
 public:
  explicit PieceSink(OriginStack* origins = nullptr) : origins_(origins) {}
  virtual ~PieceSink() = default;
  /// The bytes are valid during the call only. Never called with an empty piece.
  virtual void piece(std::string_view text) = 0;
  /// Not null when whoever rewrites text on the way here has to say where it comes from.
  OriginStack* origins() const { return origins_; }

 private:
  OriginStack* origins_;
};

}  // namespace ondol::tokenization
