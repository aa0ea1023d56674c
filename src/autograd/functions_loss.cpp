#include <ondol/autograd/functions.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

Variable cross_entropy(const Variable& logits, const Tensor& labels, const LossScale& scale, int32_t ignore_index) {
  Tape* tape = recording(logits);
  const ops::CrossEntropyResult forward = ops::cross_entropy(logits.value(), labels, ignore_index);
  Tensor total = ops::sum_f32(forward.loss, 0).reshape({1});
  ops::scale_in_place(total, scale.value);
  if (scale.factor.defined()) total = ops::mul(total, scale.factor.reshape({1}));
  Variable out = output(total, tape);
  if (tape != nullptr) {
    const Tensor lse = forward.lse;
    tape->record([logits, labels, lse, out, scale, ignore_index] {
      if (!out.has_grad()) return;
      Tensor grad = out.take_grad();
      if (scale.factor.defined()) grad = ops::mul(grad, scale.factor.reshape({1}));
      logits.add_grad(ops::cross_entropy_backward(logits.value(), labels, lse, scale.value, grad, ignore_index));
    });
  }
  return out;
}

Variable linear_cross_entropy(const Variable& hidden, const Tensor& labels, const LinearCrossEntropyInputs& inputs) {
  Tape* tape = recording(hidden, inputs.weight, inputs.bias);
  ops::LinearCrossEntropyOptions options;
  options.scale = inputs.scale;
  options.ignore_index = inputs.ignore_index;
  options.softcap = inputs.softcap;
  options.gradients = tape != nullptr;
  if (inputs.bias.defined()) options.bias = inputs.bias.value();
  if (inputs.weight.requires_grad() && tape != nullptr) {
    const GradientTarget target = inputs.weight.grad_target();
    options.grad_weight = target.tensor;
    options.accumulate_weight = target.accumulate;
  }
  const ops::LinearCrossEntropyResult forward =
      ops::linear_cross_entropy(hidden.value(), inputs.weight.value(), labels, options);
  Variable out = output(forward.loss, tape);
  if (tape != nullptr) {
    tape->record([hidden, bias = inputs.bias, out, grad_hidden = forward.grad_hidden, grad_bias = forward.grad_bias] {
      if (!out.has_grad()) return;
      const Tensor factor = out.take_grad();
      // Reading the factor would make a GPU wait; there the same programs have been checked on the CPU.
      ONDOL_CHECK(factor.device().type != DeviceType::cpu || factor.item() == 1.0,
                  "[linear_cross_entropy] the loss was multiplied by ", factor.item(), " afterwards: use its scale");
      if (hidden.requires_grad()) hidden.add_grad(grad_hidden);
      if (bias.requires_grad()) bias.add_grad(grad_bias);
    });
  }
  return out;
}

}  // namespace ondol::functions
