#include <ondol/autograd/functions.h>
#include <ondol/autograd/low_rank.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/quantized.h>
#include <ondol/ops/reduce.h>

#include "autograd/output_projection.h"
#include "autograd/recording.h"

namespace ondol::functions {

namespace {

/// scale times the sum of all elements (f32) as one element.
Tensor scaled_sum(const Tensor& x, const LossScale& scale) {
  return scaled(ops::sum_f32(x.reshape({x.numel()}), 0).reshape({1}), scale);
}

/// A loss that is a sum over elements, whose derivative by each of them is known with its value.
Variable elementwise_loss(const char* name, const Variable& x, const Tensor& target, const Tensor& losses,
                          const Tensor& derivative, const LossScale& scale) {
  refuse_label_smoothing(name, scale);
  ONDOL_CHECK(target.shape() == x.shape() && target.dtype() == DType::f32, "[", name, "] targets have shape ",
              target.shape(), " ", dtype_name(target.dtype()), ", predictions ", x.shape());
  Tape* tape = recording(x);
  Variable out = output(scaled_sum(losses, scale), tape);
  if (tape != nullptr) {
    tape->record([x, out, derivative, scale] {
      if (!out.has_grad()) return;
      x.add_grad(ops::mul(derivative, scaled(out.take_grad(), scale)).to(x.dtype()));
    });
  }
  return out;
}

}  // namespace

Variable squared_error(const Variable& x, const Tensor& target, const LossScale& scale) {
  const Tensor difference = ops::sub(x.value().contiguous().to(DType::f32), target.contiguous());
  return elementwise_loss("squared_error", x, target, ops::square(difference), ops::scale(difference, 2.0f), scale);
}

Variable binary_cross_entropy(const Variable& x, const Tensor& target, const LossScale& scale) {
  // relu(x) - x y + log(1 + exp(-|x|)): no exponential that could overflow.
  const Tensor logits = x.value().contiguous().to(DType::f32);
  const Tensor positive = ops::activation(logits, Activation::relu);
  const Tensor magnitude = ops::sub(ops::scale(positive, 2.0f), logits);
  const Tensor rest = ops::log(ops::add_scalar(ops::exp(ops::scale(magnitude, -1.0f)), 1.0f));
  const Tensor losses = ops::add(ops::sub(positive, ops::mul(logits, target.contiguous())), rest);
  const Tensor derivative = ops::sub(ops::activation(logits, Activation::sigmoid), target.contiguous());
  return elementwise_loss("binary_cross_entropy", x, target, losses, derivative, scale);
}

Variable cross_entropy(const Variable& logits, const Tensor& labels, const LossScale& scale, int32_t ignore_index) {
  Tape* tape = recording(logits);
  const ops::CrossEntropyResult forward =
      ops::cross_entropy(logits.value(), labels, ignore_index, scale.label_smoothing);
  Variable out = output(scaled_sum(forward.loss, scale), tape);
  if (tape != nullptr) {
    const Tensor lse = forward.lse;
    tape->record([logits, labels, lse, out, scale, ignore_index] {
      if (!out.has_grad()) return;
      Tensor grad = out.take_grad();
      if (scale.factor.defined()) grad = ops::mul(grad, scale.factor.reshape({1}));
      logits.add_grad(ops::cross_entropy_backward(logits.value(), labels, lse, scale, grad, ignore_index));
    });
  }
  return out;
}

Variable linear_cross_entropy(const Variable& hidden, const Tensor& labels, const LinearCrossEntropyInputs& inputs) {
  if (inputs.weight.low_rank() != nullptr) {
    ONDOL_CHECK(inputs.softcap == 0.0f && inputs.draw == nullptr,
                "[linear_cross_entropy] low-rank additions go without soft-capping and draws");
    const Variable logits = linear(hidden, {.weight = inputs.weight, .bias = inputs.bias});
    return cross_entropy(logits, labels, inputs.scale, inputs.ignore_index);
  }
  const QuantizedWeight* weight = inputs.weight.quantized();
  if (weight != nullptr && recording(hidden, inputs.weight, inputs.bias) == nullptr) {
    ONDOL_CHECK(inputs.softcap == 0.0f && inputs.draw == nullptr && inputs.scale.label_smoothing == 0.0f,
                "[linear_cross_entropy] quantised weights go without soft-capping, draws and label smoothing");
    const Tensor bias = inputs.bias.defined() ? inputs.bias.value() : Tensor();
    const Tensor sum = ops::quantized_linear_cross_entropy(hidden.value(), *weight, bias, labels, inputs.ignore_index);
    return Variable(scaled_sum(sum, inputs.scale));
  }
  Tape* tape = recording(hidden, inputs.weight, inputs.bias);
  ONDOL_CHECK(weight == nullptr || !inputs.weight.requires_grad(),
              "[linear_cross_entropy] quantised weights have no gradient");
  const Tensor values = merged_weight(inputs.weight);
  ops::LinearCrossEntropyOptions options{.scale = inputs.scale, .softcap = inputs.softcap, .draw = inputs.draw};
  options.projection = projection_options(inputs.weight, inputs.bias, inputs.ignore_index, tape);
  const ops::LinearCrossEntropyResult forward = ops::linear_cross_entropy(hidden.value(), values, labels, options);
  Variable out = output(forward.loss, tape);
  if (tape != nullptr) {
    tape->record([hidden, bias = inputs.bias, out, gradients = ops::OutputProjectionGradients(forward)] {
      if (!out.has_grad()) return;
      take_unit_gradient("linear_cross_entropy", out);
      pass_on(gradients, hidden, bias);
    });
  }
  return out;
}

}  // namespace ondol::functions
