#include "train/objectives/causal.h"
#include "train/objectives/objectives.h"

namespace ondol {

namespace {

class CausalLanguageModelling final : public Objective {
 public:
  std::string settings() const override { return R"({"type":"clm"})"; }

  Batch prepare(Batch batch, const ObjectiveContext&) const override {
    if (!batch.labels.defined()) {
      batch.labels = batch.input_ids;
      batch.labels_shifted = false;
    }
    return with_shifted_labels(std::move(batch));
  }

  Variable loss(Model& model, const Batch& rows, const LossScale& scale,
                const ForwardContext& context) const override {
    return causal_loss(model, rows, scale, context);
  }
};

}  // namespace

std::unique_ptr<Objective> make_clm(const JsonReader&) { return std::make_unique<CausalLanguageModelling>(); }

}  // namespace ondol
