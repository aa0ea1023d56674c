#include <algorithm>
#include <iterator>

#include "base/nearest_name.h"
#include "models/family.h"

namespace ondol {

namespace {

struct Family {
  const char* model_type;
  FamilyFactory make;
};

constexpr Family kFamilies[] = {
    {"bart", make_bart},
    {"bert", make_bert},
    {"ctranslate2", make_ctranslate2},
    {"distilbert", make_distilbert},
    {"electra", make_electra},
    {"gpt2", make_gpt2},
    {"llama", make_llama},
    {"marian", make_marian},
    {"mbart", make_mbart},
    {"roberta", make_roberta},
    {"t5", make_t5},
};

}  // namespace

bool is_supported_model_type(const std::string& model_type) {
  return std::any_of(std::begin(kFamilies), std::end(kFamilies),
                     [&](const Family& family) { return model_type == family.model_type; });
}

std::string model_type_of(const JsonReader& config) {
  const bool described = !config.has("model_type") && config.has("source_vocab") && config.has("target_vocab");
  return described ? "ctranslate2" : config.require<std::string>("model_type");
}

FamilyFactory find_family(const JsonReader& config) {
  const std::string type = model_type_of(config);
  std::string known;
  for (const Family& family : kFamilies) {
    if (type == family.model_type) return family.make;
    known += std::string(known.empty() ? "" : ", ") + family.model_type;
  }
  throw UsageError(concat("model type \"", type, "\" is not supported (", config.file(), ")"),
                   concat("supported: ", known));
}

}  // namespace ondol
