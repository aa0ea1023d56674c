#include "tokenizer/normalizer.h"

#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/unicode_normalization.h"

namespace ondol::tokenization {

namespace {

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalizationForm form) : form_(form) {}

  std::string_view normalize(std::string_view text, std::string& storage) const override {
    if (is_surely_normalized(text, form_)) return text;
    std::string out;
    normalize_unicode(text, form_, out);
    storage = std::move(out);
    return storage;
  }

 private:
  NormalizationForm form_;
};

class Sequence : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Normalizer>> stages) : stages_(std::move(stages)) {}

  std::string_view normalize(std::string_view text, std::string& storage) const override {
    for (const auto& stage : stages_) text = stage->normalize(text, storage);
    return text;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> stages_;
};

std::unique_ptr<Normalizer> make_component(const Json& spec, const std::string& where) {
  const std::string type = string_at(spec, "type", where);
  if (type == "NFC") return std::make_unique<UnicodeForm>(NormalizationForm::nfc);
  if (type == "NFD") return std::make_unique<UnicodeForm>(NormalizationForm::nfd);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> stages;
    for (const auto& item : array_at(spec, "normalizers", where)) {
      stages.push_back(make_component(item, concat(where, ".normalizers[", stages.size(), "]")));
    }
    return std::make_unique<Sequence>(std::move(stages));
  }
  throw UsageError(concat("normalizer type \"", type, "\" is not supported (", where, ")"));
}

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const Json& spec, const std::string& file) {
  return spec.is_null() ? nullptr : make_component(spec, concat(file, ", normalizer"));
}

}  // namespace ondol::tokenization
