#include "tokenizer/decoder.h"

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/decode_steps.h"

namespace ondol::tokenization {

namespace {

constexpr const char* kSupported =
    "BPEDecoder, ByteFallback, ByteLevel, CTC, Fuse, Metaspace, Replace, Sequence, Strip, WordPiece";

void add_steps(const Json& spec, const std::string& where, std::vector<StepMaker>& steps, bool& byte_level) {
  const std::string type = string_at(spec, "type", where);
  if (type == "Sequence") {
    size_t index = 0;
    for (const Json& item : array_at(spec, "decoders", where)) {
      add_steps(item, concat(where, ".decoders[", index++, "]"), steps, byte_level);
    }
    return;
  }
  StepMaker step = make_decode_step(type, spec, where);
  if (!step) {
    throw UsageError(concat("decoder type \"", type, "\" is not supported (", where, ")"),
                     concat("supported: ", kSupported));
  }
  if (steps.empty()) byte_level = type == "ByteLevel";
  steps.push_back(std::move(step));
}

}  // namespace

DecodeRun::DecodeRun(const std::vector<StepMaker>& makers) : text_(std::make_unique<std::string>()) {
  for (const StepMaker& make : makers) steps_.push_back(make());
  for (size_t i = 0; i < steps_.size(); ++i) {
    steps_[i]->connect(i + 1 < steps_.size() ? steps_[i + 1].get() : nullptr, text_.get());
  }
}

void DecodeRun::push(std::string_view token, std::string& out) {
  if (steps_.empty()) {
    out += token;
    return;
  }
  steps_[0]->part(token, true, true);
  out += *text_;
  text_->clear();
}

void DecodeRun::finish(std::string& out) {
  if (!steps_.empty()) steps_[0]->finish();
  out += *text_;
  text_->clear();
}

std::unique_ptr<Decoder> make_decoder(const Json& spec, const std::string& file) {
  std::vector<StepMaker> steps;
  bool byte_level = false;
  if (spec.is_null()) {
    steps.push_back(make_join_step());
  } else {
    add_steps(spec, file + ", decoder", steps, byte_level);
  }
  return std::make_unique<Decoder>(std::move(steps), byte_level);
}

}  // namespace ondol::tokenization
