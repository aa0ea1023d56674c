#include <ondol/autograd/functions.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/reduce.h>

#include "autograd/output_projection.h"
#include "autograd/recording.h"

namespace ondol::functions {

namespace {

constexpr float kCosineEps = 1e-12f;

constexpr const char* kOp = "linear_distillation";

/// Records that `pass_on` hands the gradients on once both losses have theirs.
template <class PassOn>
DistillationLosses losses_of(const Tensor& soft, const Tensor& hard, Tape* tape, const PassOn& pass_on) {
  const DistillationLosses out{output(soft, tape), output(hard, tape)};
  if (tape != nullptr) {
    tape->record([out, pass_on] {
      if (!out.soft.has_grad() && !out.hard.has_grad()) return;
      take_unit_gradient(kOp, out.soft);
      take_unit_gradient(kOp, out.hard);
      pass_on();
    });
  }
  return out;
}

}  // namespace

DistillationLosses linear_distillation(const Variable& hidden, const Tensor& labels,
                                       const LinearDistillationInputs& inputs) {
  refuse_label_smoothing(kOp, inputs.hard_scale);
  const ops::DistillationTerms terms{.temperature = inputs.temperature,
                                     .label_mix = inputs.label_mix,
                                     .soft_scale = inputs.soft_scale,
                                     .hard_scale = inputs.hard_scale};
  // Logits of other than plain weights are held whole.
  if (inputs.weight.low_rank() != nullptr || inputs.weight.quantized() != nullptr) {
    const Variable logits = linear(hidden, {.weight = inputs.weight, .bias = inputs.bias});
    Tape* tape = recording(logits);
    const ops::DistillationResult forward =
        ops::distillation(logits.value(), labels, inputs.teacher, terms, tape != nullptr, inputs.ignore_index);
    return losses_of(forward.soft, forward.hard, tape, [logits, grad = forward.grad_logits] { logits.add_grad(grad); });
  }
  Tape* tape = recording(hidden, inputs.weight, inputs.bias);
  const ops::LinearDistillationOptions options{
      .terms = terms, .projection = projection_options(inputs.weight, inputs.bias, inputs.ignore_index, tape)};
  const ops::LinearDistillationResult forward =
      ops::linear_distillation(hidden.value(), inputs.weight.value(), labels, inputs.teacher, options);
  return losses_of(forward.soft, forward.hard, tape,
                   [hidden, bias = inputs.bias, gradients = ops::OutputProjectionGradients(forward)] {
                     pass_on(gradients, hidden, bias);
                   });
}

Variable cosine_distance(const Variable& x, const Tensor& target, const Tensor& weights, const LossScale& scale) {
  refuse_label_smoothing("cosine_distance", scale);
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
  Variable out = output(scaled(ops::sum_f32(distances.reshape({rows}), 0).reshape({1}), scale), tape);
  if (tape != nullptr) {
    tape->record([=] {
      if (!out.has_grad()) return;
      Tensor factor = ops::scale(scaled(out.take_grad(), scale), -1.0f);
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
