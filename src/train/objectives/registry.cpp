#include "train/objectives/objectives.h"

namespace ondol {

namespace {

struct ObjectiveType {
  const char* name;
  std::unique_ptr<Objective> (*make)(const JsonReader& section);
};

constexpr ObjectiveType kObjectives[] = {
    {"bart", make_bart_denoising},
    {"classification", make_classification},
    {"clm", make_clm},
    {"distillation", make_distillation},
    {"fim", make_fim},
    {"mlm", make_mlm},
    {"prefix_lm", make_prefix_lm},
    {"question_answering", make_question_answering},
    {"regression", make_regression},
    {"rtd", make_rtd},
    {"seq2seq", make_seq2seq},
    {"sft", make_sft},
    {"span_corruption", make_span_corruption},
    {"tensors", make_tensors},
    {"token_classification", make_token_classification},
    {"ul2", make_ul2},
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
