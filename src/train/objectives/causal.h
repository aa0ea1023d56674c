// What the objectives of causal language models share.
#pragma once

#include <ondol/train/objective.h>

namespace ondol {

/// labels[b, t] becomes labels[b, t + 1], the last column kIgnoreIndex: the target of each position from labels that
/// say which token stands there. (B, T) i32.
Tensor shift_labels(const Tensor& labels);

/// The batch with each position's target in `labels`, shifted unless they are already.
Batch with_shifted_labels(Batch batch);

/// scale times the sum of cross-entropies of the model's next-token prediction against batch.labels.
Variable causal_loss(Model& model, const Batch& rows, const LossScale& scale, const ForwardContext& context);

}  // namespace ondol
