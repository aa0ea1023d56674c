// What losses on top of an output projection share: their gradients are formed in the forward, those of the weight
// straight into its own.
#pragma once

#include <ondol/autograd/variable.h>
#include <ondol/ops/loss.h>

namespace ondol::functions {

/// scale times x.
Tensor scaled(const Tensor& x, const LossScale& scale);

/// For losses that have none. Throws UsageError naming the loss.
void refuse_label_smoothing(const char* loss, const LossScale& scale);

/// What the loss is told when `tape` records it (null: nothing does).
ops::OutputProjectionOptions projection_options(const Variable& weight, const Variable& bias, int32_t ignore_index,
                                                const Tape* tape);

/// Throws unless the gradient 1 has arrived at a loss whose gradients have been formed already.
void take_unit_gradient(const char* op, const Variable& loss);

/// Passes on those of hidden and bias.
void pass_on(const ops::OutputProjectionGradients& gradients, const Variable& hidden, const Variable& bias);

}  // namespace ondol::functions
