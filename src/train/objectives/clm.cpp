#include "train/objectives/objectives.h"

namespace ondol {

namespace {

/// Every token is to be predicted, but for padding.
Tensor labels_of(const Batch& batch) {
  if (!batch.attention_mask.defined()) return batch.input_ids;
  std::vector<int32_t> labels = batch.input_ids.to_vector<int32_t>();
  const std::vector<uint8_t> mask = batch.attention_mask.to_vector<uint8_t>();
  for (size_t i = 0; i < labels.size(); ++i) {
    if (mask[i] == 0) labels[i] = kIgnoreIndex;
  }
  return Tensor::from_vector(labels, batch.input_ids.shape());
}

class CausalLanguageModelling final : public Objective {
 public:
  std::string settings() const override { return R"({"type":"clm"})"; }

  void check_samples(const Batch& example, const ObjectiveContext& context) const override {
    const Model& model = context.model;
    if (model.info().head != Head::causal_language_model) {
      throw UsageError(concat("objective \"clm\" needs a model that predicts the next token, not a ",
                              model.info().model_type, " model (", model.info().architecture, ")"));
    }
    Objective::check_samples(example, context);
  }

  Batch prepare(Batch batch, const ObjectiveContext& context) const override {
    if (!batch.labels.defined()) {
      batch.labels = labels_of(batch);
      batch.labels_shifted = false;
    }
    return Objective::prepare(std::move(batch), context);
  }
};

}  // namespace

std::unique_ptr<Objective> objectives::make_clm(const JsonReader&) {
  return std::make_unique<CausalLanguageModelling>();
}

}  // namespace ondol
