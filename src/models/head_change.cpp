#include "models/head_change.h"

#include "models/family.h"
#include "models/label_head.h"

namespace ondol {

namespace {

enum class Heads { sequences, labels, all };  // labels: of sequences and tokens
struct FamilyHeads {
  const char* model_type;
  const char* prefix;
  Heads heads;
};
constexpr FamilyHeads kFamilies[] = {
    {"bart", "Bart", Heads::sequences},   {"bert", "Bert", Heads::all},       {"distilbert", "DistilBert", Heads::all},
    {"electra", "Electra", Heads::all},   {"gpt2", "GPT2", Heads::labels},    {"llama", "Llama", Heads::labels},
    {"mbart", "MBart", Heads::sequences}, {"roberta", "Roberta", Heads::all}, {"t5", "T5", Heads::sequences},
};

struct HeadName {
  Head head;
  const char* suffix;
  const char* text;
  Heads least;  // families that have it
};
constexpr HeadName kHeads[] = {
    {Head::sequence_classification, "ForSequenceClassification", "classifies sequences", Heads::sequences},
    {Head::token_classification, "ForTokenClassification", "classifies tokens", Heads::labels},
    {Head::question_answering, "ForQuestionAnswering", "finds answers", Heads::all},
};

std::string architecture_of(const std::string& model_type, Head head) {
  std::string known;
  for (const HeadName& name : kHeads) {
    if (name.head != head) continue;
    for (const FamilyHeads& family : kFamilies) {
      if (family.heads < name.least) continue;
      if (model_type == family.model_type) return concat(family.prefix, name.suffix);
      known += concat(known.empty() ? "" : ", ", family.model_type);
    }
    throw UsageError(concat("a ", model_type, " model has no head that ", name.text, " (model)"), "such are: " + known);
  }
  throw_error("[models] no head to change to");
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
  // Decoders tell a row by its last token before the padding; the end token is what stands in for it as a rule.
  if (request.head == Head::sequence_classification && !config.has("pad_token_id") && config.has("eos_token_id")) {
    const Json& end = config.raw("eos_token_id");
    change.config["pad_token_id"] = end.is_array() && !end.empty() ? end.front() : end;
  }
  if (!request.problem_type.empty()) {
    change.config["problem_type"] = request.problem_type;
  } else if (change.fresh) {
    change.config.erase("problem_type");
  }
  return change;
}

}  // namespace ondol
