#include "models/head_change.h"

#include "models/family.h"
#include "models/label_set.h"

namespace ondol {

namespace {

struct FamilyHeads {
  const char* model_type;
  const char* prefix;
};
constexpr FamilyHeads kFamilies[] = {
    {"bert", "Bert"},
    {"distilbert", "DistilBert"},
    {"electra", "Electra"},
    {"roberta", "Roberta"},
};

struct HeadName {
  Head head;
  const char* suffix;
  const char* text;
};
constexpr HeadName kHeads[] = {
    {Head::sequence_classification, "ForSequenceClassification", "classifies sequences"},
    {Head::token_classification, "ForTokenClassification", "classifies tokens"},
    {Head::question_answering, "ForQuestionAnswering", "finds answers"},
};

std::string architecture_of(const std::string& model_type, Head head) {
  std::string known;
  for (const HeadName& name : kHeads) {
    if (name.head != head) continue;
    for (const FamilyHeads& family : kFamilies) {
      if (model_type == family.model_type) return concat(family.prefix, name.suffix);
      known += concat(known.empty() ? "" : ", ", family.model_type);
    }
    throw UsageError(concat("a ", model_type, " model has no head that ", name.text, " (model)"), "such are: " + known);
  }
  throw_error("[models] no head to change to");
}

std::string listed_architecture(const JsonReader& config) {
  if (!config.has("architectures")) return "";
  const auto names = config.require<std::vector<std::string>>("architectures");
  return names.empty() ? "" : names.front();
}

}  // namespace

HeadChange change_head(const JsonReader& config, const HeadRequest& request) {
  const std::string wanted = architecture_of(model_type_of(config), request.head);
  HeadChange change{config.object(), listed_architecture(config) != wanted};
  if (!request.labels.empty()) {
    change.fresh = change.fresh || read_label_set(config).names != request.labels;
    Json names = Json::object(), numbers = Json::object();
    for (size_t i = 0; i < request.labels.size(); ++i) {
      names[std::to_string(i)] = request.labels[i];
      numbers[request.labels[i]] = i;
    }
    change.config["id2label"] = names;
    change.config["label2id"] = numbers;
    change.config["num_labels"] = request.labels.size();
  }
  change.config["architectures"] = Json::array({wanted});
  if (!request.problem_type.empty()) {
    change.config["problem_type"] = request.problem_type;
  } else if (change.fresh) {
    change.config.erase("problem_type");
  }
  return change;
}

}  // namespace ondol
