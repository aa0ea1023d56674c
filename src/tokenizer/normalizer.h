// Normalizers: rewrite a text before it is split.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/json_access.h"
#include "tokenizer/tracked_text.h"

namespace ondol::tokenization {

/// One step.
class Rewriter {
 public:
  virtual ~Rewriter() = default;
  /// Writes the rewritten text; false when it is the same (nothing need be written then). Safe to call from several
  /// threads.
  virtual bool rewrite(std::string_view text, TextWriter& out) const = 0;
};

/// Memory of one thread for normalized text.
struct NormalizerBuffers {
  std::string text[2];
  bool track = false;  // whether to fill `origins`
  Origins origins;     // of the normalized text in the one that was given
};

class Normalizer {
 public:
  explicit Normalizer(std::vector<std::unique_ptr<Rewriter>> steps) : steps_(std::move(steps)) {}
  /// The normalized text: the argument itself when nothing changes, otherwise a view into the buffers.
  std::string_view normalize(std::string_view text, NormalizerBuffers& buffers) const;

 private:
  std::vector<std::unique_ptr<Rewriter>> steps_;
};

/// From the "normalizer" part of tokenizer.json; null gives no normalizer (nullptr).
/// Throws UsageError for a type that is not supported.
std::unique_ptr<Normalizer> make_normalizer(const Json& spec, const std::string& file);

/// Makers of single steps; nullptr for a type that is not theirs.
std::unique_ptr<Rewriter> make_text_rewriter(const std::string& type, const Json& spec, const std::string& where);
std::unique_ptr<Rewriter> make_bert_normalizer(const Json& spec, const std::string& where);

}  // namespace ondol::tokenization
