#include "train/objectives/objectives.h"

namespace ondol {

namespace {

struct ObjectiveType {
  const char* name;
  std::unique_ptr<Objective> (*make)(const JsonReader& section);
};

constexpr ObjectiveType kObjectives[] = {
    {"bart", objectives::make_bart},
    {"classification", objectives::make_classification},
    {"clm", objectives::make_clm},
    {"distillation", objectives::make_distillation},
    {"fim", objectives::make_fim},
    {"mlm", objectives::make_mlm},
    {"prefix_lm", objectives::make_prefix_lm},
    {"question_answering", objectives::make_question_answering},
    {"regression", objectives::make_regression},
    {"rtd", objectives::make_rtd},
    {"seq2seq", objectives::make_seq2seq},
    {"sft", objectives::make_sft},
    {"span_corruption", objectives::make_span_corruption},
    {"tensors", objectives::make_tensors},
    {"token_classification", objectives::make_token_classification},
    {"ul2", objectives::make_ul2},
};

}  // namespace

std::unique_ptr<Objective> make_objective(const JsonReader& section) {
  std::vector<std::string> names;
  for (const ObjectiveType& type : kObjectives) names.emplace_back(type.name);
  const std::string wanted = section.get_enum("type", "clm", names);
  for (const ObjectiveType& type : kObjectives) {
    if (wanted == type.name) return type.make(section);
  }
  section.fail("type", "unknown objective");
}

std::unique_ptr<Objective> make_objective(const std::string& settings) {
  const Json document = parse_json(settings, "objective");
  return make_objective(JsonReader(document, "objective"));
}

}  // namespace ondol
