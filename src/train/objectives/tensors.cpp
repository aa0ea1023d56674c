#include "train/objectives/causal.h"
#include "train/objectives/objectives.h"

namespace ondol {

namespace {

/// Labels as Hugging Face models take them: for causal models the token that stands at each position.
class FinishedSamples final : public Objective {
 public:
  std::string settings() const override { return R"({"type":"tensors"})"; }

  void check_samples(const Batch& example, const Model& model) const override {
    if (!example.labels.defined() || example.labels_shifted) {
      throw UsageError("objective \"tensors\" needs .safetensors rows with a tensor \"labels\" (data)");
    }
    check_causal_samples(example, model);
  }

  Batch prepare(Batch batch, const ObjectiveContext&) const override { return with_shifted_labels(std::move(batch)); }

  Variable loss(Model& model, const Batch& rows, const LossScale& scale, const ForwardContext& context) const override {
    return causal_loss(model, rows, scale, context);
  }
};

}  // namespace

std::unique_ptr<Objective> make_tensors(const JsonReader&) { return std::make_unique<FinishedSamples>(); }

}  // namespace ondol
