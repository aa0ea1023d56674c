// Normalizers: rewrite a text before it is split.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/json_access.h"

namespace ondol::tokenization {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// The normalized text: the argument itself when nothing changes, otherwise a view of `storage`.
  virtual std::string_view normalize(std::string_view text, std::string& storage) const = 0;
};

/// From the "normalizer" part of tokenizer.json; null gives no normalizer (nullptr).
/// Throws UsageError for a type that is not supported.
std::unique_ptr<Normalizer> make_normalizer(const Json& spec, const std::string& file);

}  // namespace ondol::tokenization
