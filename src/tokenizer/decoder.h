// Decoders: from tokens back to text, one token after another.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/json_access.h"

namespace ondol::tokenization {

/// One step of a decoder at work on one sequence. Tokens come in parts, as a step before may join them.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  /// Appends what becomes certain to `out`, or hands it on to the next step.
  virtual void part(std::string_view text, bool begins, bool ends) = 0;
  /// No token follows.
  virtual void finish() {
    if (next_ != nullptr) next_->finish();
  }
  /// The step that takes the tokens, or where the text goes after the last one.
  void connect(DecodeStep* next, std::string* out) {
    next_ = next;
    out_ = out;
  }

 protected:
  void emit(std::string_view text, bool begins, bool ends) {
    if (next_ != nullptr) {
      next_->part(text, begins, ends);
    } else {
      out_->append(text);
    }
  }

 private:
  DecodeStep* next_ = nullptr;
  std::string* out_ = nullptr;
};

using StepMaker = std::function<std::unique_ptr<DecodeStep>()>;

/// A sequence being decoded.
class DecodeRun {
 public:
  explicit DecodeRun(const std::vector<StepMaker>& makers);
  /// Appends the text that became certain with this token (as the vocabulary spells it).
  void push(std::string_view token, std::string& out);
  /// Appends what was held back.
  void finish(std::string& out);

 private:
  std::vector<std::unique_ptr<DecodeStep>> steps_;
  std::unique_ptr<std::string> text_;
};

class Decoder {
 public:
  Decoder(std::vector<StepMaker> steps, bool byte_level) : steps_(std::move(steps)), byte_level_(byte_level) {}
  DecodeRun start() const { return DecodeRun(steps_); }
  /// Whether tokens are taken as spelled in the byte alphabet, which added tokens are not.
  bool byte_level() const { return byte_level_; }

 private:
  std::vector<StepMaker> steps_;
  bool byte_level_;
};

/// From the "decoder" part of tokenizer.json; null puts spaces between the tokens. Throws UsageError for a type that is
/// not supported.
std::unique_ptr<Decoder> make_decoder(const Json& spec, const std::string& file);

}  // namespace ondol::tokenization
