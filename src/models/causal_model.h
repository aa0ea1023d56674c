// Language models that predict the next token: what is the same for all of them.
//
// A family derives from it, wires hidden() and sets output_ in its constructor.
#pragma once

#include "models/family.h"

namespace ondol {

class CausalModel : public FamilyModel {
 public:
  std::vector<InputSpec> inputs() const override;
  NamedOutputs forward(const ModelInput& input, const ForwardContext& context) override;
  std::vector<int64_t> count_targets(const ModelInput& prepared) const override;
  std::vector<Variable> losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                               const ForwardContext& context) override;
  OutputProjection output_projection() const override { return output_; }
  TokenPredictions predict_tokens(const ModelInput& input, const ForwardContext& context) override;

 protected:
  explicit CausalModel(const JsonReader& config);
  ModelInput complete(ModelInput input) const override;

  OutputProjection output_;
};

/// Labels (i32) other than kIgnoreIndex; 0 when there are none. On the host.
int64_t count_labels(const Tensor& labels);

}  // namespace ondol
