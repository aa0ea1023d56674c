#include "autograd/output_projection.h"

#include <ondol/ops/elementwise.h>

namespace ondol::functions {

Tensor scaled(const Tensor& x, const LossScale& scale) {
  const Tensor product = ops::scale(x, scale.value);
  return scale.factor.defined() ? ops::mul(product, scale.factor.reshape({1})) : product;
}

void refuse_label_smoothing(const char* loss, const LossScale& scale) {
  if (scale.label_smoothing == 0.0f) return;
  throw UsageError(concat("label smoothing does not go with the loss of this objective (", loss, ")"),
                   "leave train.label_smoothing out");
}

ops::OutputProjectionOptions projection_options(const Variable& weight, const Variable& bias, int32_t ignore_index,
                                                const Tape* tape) {
  ops::OutputProjectionOptions options;
  if (bias.defined()) options.bias = bias.value();
  options.ignore_index = ignore_index;
  options.gradients = tape != nullptr;
  options.weight_gradient = weight.requires_grad();
  if (options.gradients && options.weight_gradient) {
    const GradientTarget target = weight.grad_target();
    options.grad_weight = target.tensor;
    options.accumulate_weight = target.accumulate;
  }
  return options;
}

void take_unit_gradient(const char* op, const Variable& loss) {
  ONDOL_CHECK(loss.has_grad(), "[", op, "] one of the losses takes no part in the final one");
  const Tensor factor = loss.take_grad();
  // Reading the factor would make a GPU wait; there the same programs have been checked on the CPU.
  ONDOL_CHECK(factor.device().type != DeviceType::cpu || factor.item() == 1.0, "[", op, "] the loss was multiplied by ",
              factor.item(), " afterwards: use its scale");
}

void pass_on(const ops::OutputProjectionGradients& gradients, const Variable& hidden, const Variable& bias) {
  if (hidden.requires_grad()) hidden.add_grad(gradients.grad_hidden);
  if (bias.requires_grad()) bias.add_grad(gradients.grad_bias);
}

}  // namespace ondol::functions
