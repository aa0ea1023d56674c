#include "tokenizer/normalizer.h"

#include <utility>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/precompiled_normalizer.h"
#include "tokenizer/unicode_normalization.h"

namespace ondol::tokenization {

namespace {

constexpr const char* kSupported =
    "BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, Prepend, Replace, Sequence, Strip, "
    "StripAccents";

class UnicodeForm : public Rewriter {
 public:
  explicit UnicodeForm(NormalizationForm form) : form_(form) {}

  bool rewrite(std::string_view text, TextWriter& out) const override {
    if (is_surely_normalized(text, form_)) return false;
    normalize_unicode(text, form_, out);
    return true;
  }

 private:
  NormalizationForm form_;
};

std::unique_ptr<Rewriter> make_unicode_form(const std::string& type) {
  const std::pair<const char*, NormalizationForm> forms[] = {{"NFC", NormalizationForm::nfc},
                                                             {"NFD", NormalizationForm::nfd},
                                                             {"NFKC", NormalizationForm::nfkc},
                                                             {"NFKD", NormalizationForm::nfkd}};
  for (const auto& [name, form] : forms) {
    if (type == name) return std::make_unique<UnicodeForm>(form);
  }
  return nullptr;
}

void add_steps(const Json& spec, const std::string& where, std::vector<std::unique_ptr<Rewriter>>& steps) {
  const std::string type = string_at(spec, "type", where);
  if (type == "Sequence") {
    size_t index = 0;
    for (const auto& item : array_at(spec, "normalizers", where)) {
      add_steps(item, concat(where, ".normalizers[", index++, "]"), steps);
    }
    return;
  }
  std::unique_ptr<Rewriter> step = make_unicode_form(type);
  if (!step) step = make_text_rewriter(type, spec, where);
  if (!step && type == "BertNormalizer") step = make_bert_normalizer(spec, where);
  if (!step && type == "Precompiled") step = make_precompiled_normalizer(spec, where);
  if (!step) {
    throw UsageError(concat("normalizer type \"", type, "\" is not supported (", where, ")"),
                     concat("supported: ", kSupported));
  }
  steps.push_back(std::move(step));
}

}  // namespace

std::string_view Normalizer::normalize(std::string_view text, NormalizerBuffers& buffers) const {
  if (buffers.track) buffers.origins = identity_origins(text);
  size_t next = 0;  // the buffer that does not hold `text`
  Origins origins;
  for (const auto& step : steps_) {
    std::string& target = buffers.text[next];
    target.clear();
    origins.clear();
    TextWriter writer(target, buffers.track ? &origins : nullptr);
    if (!step->rewrite(text, writer)) continue;
    if (buffers.track) {
      compose_origins(origins, buffers.origins);
      buffers.origins.swap(origins);
    }
    text = target;
    next = 1 - next;
  }
  return text;
}

std::unique_ptr<Normalizer> make_normalizer(const Json& spec, const std::string& file) {
  if (spec.is_null()) return nullptr;
  std::vector<std::unique_ptr<Rewriter>> steps;
  add_steps(spec, concat(file, ", normalizer"), steps);
  return std::make_unique<Normalizer>(std::move(steps));
}

}  // namespace ondol::tokenization
