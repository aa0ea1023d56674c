#include <ondol/autograd/functions.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

namespace {

constexpr float kCosineEps = 1e-12f;

Tensor times(const Tensor& x, const LossScale& scale) {
  const Tensor scaled = ops::scale(x, scale.value);
  return scale.factor.defined() ? ops::mul(scaled, scale.factor.reshape({1})) : scaled;
}

/// Gradients of such a loss are formed in its forward; the factor 1 is what they stand for.
void check_unit_gradient(const Variable& loss) {
  ONDOL_CHECK(loss.has_grad(), "[linear_distillation] one of the losses takes no part in the final one");
  const Tensor factor = loss.take_grad();
  // Reading the factor would make a GPU wait; there the same programs have been checked on the CPU.
  ONDOL_CHECK(factor.device().type != DeviceType::cpu || factor.item() == 1.0,
              "[linear_distillation] a loss was multiplied by ", factor.item(), " afterwards: use its scale");
}

}  // namespace

DistillationLosses linear_distillation(const Variable& hidden, const Tensor& labels,
                                       const LinearDistillationInputs& inputs) {
  Tape* tape = recording(hidden, inputs.weight, inputs.bias);
  ops::LinearDistillationOptions options;
  options.temperature = inputs.temperature;
  options.label_mix = inputs.label_mix;
  options.soft_scale = inputs.soft_scale;
  options.hard_scale = inputs.hard_scale;
  options.ignore_index = inputs.ignore_index;
  options.gradients = tape != nullptr;
  options.weight_gradient = inputs.weight.requires_grad();
  if (inputs.bias.defined()) options.bias = inputs.bias.value();
  if (inputs.weight.requires_grad() && tape != nullptr) {
    const GradientTarget target = inputs.weight.grad_target();
    options.grad_weight = target.tensor;
    options.accumulate_weight = target.accumulate;
  }
  const ops::LinearDistillationResult forward =
      ops::linear_distillation(hidden.value(), inputs.weight.value(), labels, inputs.teacher, options);
  const DistillationLosses out{output(forward.soft, tape), output(forward.hard, tape)};
  if (tape != nullptr) {
    tape->record([hidden, bias = inputs.bias, out, grad_hidden = forward.grad_hidden, grad_bias = forward.grad_bias] {
      if (!out.soft.has_grad() && !out.hard.has_grad()) return;
      check_unit_gradient(out.soft);
      check_unit_gradient(out.hard);
      if (hidden.requires_grad()) hidden.add_grad(grad_hidden);
      if (bias.requires_grad()) bias.add_grad(grad_bias);
    });
  }
  return out;
}

Variable cosine_distance(const Variable& x, const Tensor& target, const Tensor& weights, const LossScale& scale) {
  const Shape& shape = x.shape();
  ONDOL_CHECK(shape.ndim() >= 1 && target.shape() == shape && target.dtype() == x.dtype(), "[cosine_distance] x is ",
              shape, " ", dtype_name(x.dtype()), ", target ", target.shape(), " ", dtype_name(target.dtype()));
  const int64_t cols = shape[-1], rows = cols > 0 ? x.value().numel() / cols : 0;
  ONDOL_CHECK(!weights.defined() || (weights.numel() == rows && weights.dtype() == DType::f32),
              "[cosine_distance] weights have shape ", weights.shape(), " ", dtype_name(weights.dtype()), " for ", rows,
              " rows");
  const Tensor a = x.value().contiguous().reshape({rows, cols}).to(DType::f32);
  const Tensor b = target.contiguous().reshape({rows, cols}).to(DType::f32);
  const auto row_sums = [&](const Tensor& products) { return ops::sum_f32(products, 1).reshape({rows, 1}); };
  const Tensor a_squared = ops::add_scalar(row_sums(ops::square(a)), kCosineEps);
  const Tensor b_squared = ops::add_scalar(row_sums(ops::square(b)), kCosineEps);
  const Tensor norms = ops::mul(ops::sqrt(a_squared), ops::sqrt(b_squared));
  const Tensor cosine = ops::div(row_sums(ops::mul(a, b)), norms);
  const Tensor row_weights = weights.defined() ? weights.contiguous().reshape({rows, 1}) : Tensor();
  Tensor distances = ops::add_scalar(ops::scale(cosine, -1.0f), 1.0f);
  if (row_weights.defined()) distances = ops::mul(distances, row_weights);

  Tape* tape = recording(x);
  Variable out = output(times(ops::sum_f32(distances.reshape({rows}), 0).reshape({1}), scale), tape);
  if (tape != nullptr) {
    tape->record([=] {
      if (!out.has_grad()) return;
      Tensor factor = ops::scale(times(out.take_grad(), scale), -1.0f);
      if (row_weights.defined()) factor = ops::mul(row_weights, factor);
      // d cos / dx = y / (|x| |y|) - cos x / |x|^2
      const Tensor along = ops::mul(b, ops::div(Tensor::full({1}, 1.0, DType::f32, b.device()), norms));
      const Tensor across = ops::mul(a, ops::div(cosine, a_squared));
      x.add_grad(ops::mul(ops::sub(along, across), factor).to(x.dtype()).reshape(x.shape()));
    });
  }
  return out;
}

}  // namespace ondol::functions
