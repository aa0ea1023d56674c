// One optimizer step: micro-batches, clipping, update.
#pragma once

#include <ondol/train/objective.h>
#include <ondol/train/optimizer.h>

#include "train/gradient_sum.h"

namespace ondol {

struct GradientResult {
  double loss = 0.0;       // mean over all predictions of the batch
  double grad_norm = 0.0;  // before clipping
  bool finite() const;
};

class TrainingStep {
 public:
  TrainingStep(Model& model, uint64_t seed);

  /// Forward and backward of a prepared batch; the gradient of the mean loss is then in the model's parameters.
  GradientResult gradients(const Objective& objective, const Batch& batch, int64_t micro_batch_size, int64_t step);

  /// Mean loss of a prepared batch without gradients or dropout.
  double evaluate(const Objective& objective, const Batch& batch, int64_t micro_batch_size);

 private:
  Model& model_;
  GradientSum sum_;
  uint64_t seed_;
  Tensor step_;  // i64, read by dropout
};

}  // namespace ondol
