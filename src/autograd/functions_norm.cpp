#include <ondol/autograd/functions.h>
#include <ondol/ops/glu.h>
#include <ondol/ops/norm.h>

#include "autograd/recording.h"

namespace ondol::functions {

namespace {

/// The backward that all four forms share. `sum` is undefined in the forms without a residual.
void record_norm(Tape* tape, const Variable& x, const Variable& residual, const Variable& weight, const Variable& bias,
                 const Variable& out, const Variable& sum, ops::NormResult forward, float weight_offset) {
  forward.out = Tensor();  // not needed again
  tape->record([x, residual, weight, bias, out, sum, forward, weight_offset] {
    const Tensor grad_sum = sum.defined() ? sum.take_grad() : Tensor();
    if (!out.has_grad()) {
      if (!grad_sum.defined()) return;
      if (x.requires_grad()) x.add_grad(grad_sum);
      if (residual.requires_grad()) residual.add_grad(grad_sum);
      return;
    }
    ops::NormWeightGradients gradients;
    if (weight.requires_grad()) {
      const GradientTarget target = weight.grad_target();
      gradients.weight = target.tensor;
      gradients.accumulate = target.accumulate;
    }
    if (bias.requires_grad()) {
      const GradientTarget target = bias.grad_target();
      gradients.bias = target.tensor;
      gradients.accumulate = target.accumulate;
    }
    const Tensor grad = ops::norm_backward(out.take_grad().contiguous(), grad_sum, forward,
                                           weight.defined() ? weight.value() : Tensor(), weight_offset, gradients);
    if (x.requires_grad()) x.add_grad(grad);
    if (residual.requires_grad()) residual.add_grad(grad);
  });
}

}  // namespace

Variable rms_norm(const Variable& x, const Variable& weight, float eps, float weight_offset) {
  Tape* tape = recording(x, weight);
  const ops::NormResult forward =
      ops::rms_norm(x.value(), weight.value(), {.eps = eps, .weight_offset = weight_offset});
  Variable out = output(forward.out, tape);
  if (tape != nullptr) record_norm(tape, x, {}, weight, {}, out, {}, forward, weight_offset);
  return out;
}

Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, float eps) {
  Tape* tape = recording(x, weight, bias);
  const ops::NormResult forward = ops::layer_norm(x.value(), weight.value(), bias.value(), {.eps = eps});
  Variable out = output(forward.out, tape);
  if (tape != nullptr) record_norm(tape, x, {}, weight, bias, out, {}, forward, 0.0f);
  return out;
}

NormWithSum add_rms_norm(const Variable& x, const Variable& residual, const Variable& weight, float eps,
                         float weight_offset) {
  Tape* tape = recording(x, residual, weight);
  const ops::NormResult forward = ops::rms_norm(
      x.value(), weight.value(), {.eps = eps, .residual = &residual.value(), .weight_offset = weight_offset});
  NormWithSum result{output(forward.out, tape), output(forward.sum, tape)};
  if (tape != nullptr) record_norm(tape, x, residual, weight, {}, result.out, result.sum, forward, weight_offset);
  return result;
}

NormWithSum add_layer_norm(const Variable& x, const Variable& residual, const Variable& weight, const Variable& bias,
                           float eps) {
  Tape* tape = recording(x, residual, weight, bias);
  const ops::NormResult forward =
      ops::layer_norm(x.value(), weight.value(), bias.value(), {.eps = eps, .residual = &residual.value()});
  NormWithSum result{output(forward.out, tape), output(forward.sum, tape)};
  if (tape != nullptr) record_norm(tape, x, residual, weight, bias, result.out, result.sum, forward, 0.0f);
  return result;
}

Variable glu(const Variable& gate_up, Activation kind) {
  Tape* tape = recording(gate_up);
  Variable out = output(ops::glu(gate_up.value(), kind), tape);
  if (tape != nullptr) {
    tape->record([gate_up, out, kind] {
      if (out.has_grad()) {
        gate_up.add_grad(ops::glu_backward(out.take_grad().contiguous(), gate_up.value(), kind));
      }
    });
  }
  return out;
}

}  // namespace ondol::functions
