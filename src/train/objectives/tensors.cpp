#include "train/objectives/objectives.h"

namespace ondol {

namespace {

/// Inputs and labels as Hugging Face models take them: for causal models the token that stands at each position.
class FinishedSamples final : public Objective {
 public:
  std::string settings() const override { return R"({"type":"tensors"})"; }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    const Model& model = context.model;
    if (!has_target(model_input(example), model) || (example.labels.defined() && example.labels_shifted)) {
      throw UsageError(concat("objective \"tensors\" needs .safetensors rows with ", target_names(model), " (data)"));
    }
    Objective::check_samples(example, context);
  }

 private:
  static bool has_target(const ModelInput& input, const Model& model) {
    for (const InputSpec& spec : model.inputs()) {
      if (spec.role == InputSpec::target && input.find(spec.name)->defined()) return true;
    }
    return false;
  }

  static std::string target_names(const Model& model) {
    std::string names;
    for (const InputSpec& spec : model.inputs()) {
      const std::string name = concat("\"", spec.name, "\"");
      if (spec.role != InputSpec::target || names.find(name) != std::string::npos) continue;
      names += (names.empty() ? "" : " or ") + name;
    }
    return names.empty() ? "targets, which no model of this architecture takes" : names;
  }
};

}  // namespace

std::unique_ptr<Objective> objectives::make_tensors(const JsonReader&) { return std::make_unique<FinishedSamples>(); }

}  // namespace ondol
