// What the objectives of causal language models share.
#pragma once

#include <ondol/train/objective.h>

namespace ondol {

/// labels[b, t] becomes labels[b, t + 1], the last column kIgnoreIndex: the target of each position from labels that
/// say which token stands there. (B, T) i32.
Tensor shift_labels(const Tensor& labels);

/// The batch with each position's target in `labels`, shifted unless they are already.
Batch with_shifted_labels(Batch batch);

/// Throws UsageError unless a sample holds what a causal model takes: input_ids, labels (T), and a mask and positions
/// of the same length where there are any; nothing else, and no more tokens than the model has positions.
void check_causal_samples(const Batch& example, const Model& model);

/// scale times the sum of cross-entropies of the model's next-token prediction against batch.labels.
Variable causal_loss(Model& model, const Batch& rows, const LossScale& scale, const ForwardContext& context);

}  // namespace ondol
