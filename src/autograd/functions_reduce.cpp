#include <ondol/autograd/functions.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

namespace {

/// The gradient of a sum over `dim`, repeated over it.
void add_repeated_grad(const Variable& x, const Tensor& grad, int dim, float factor) {
  const Tensor repeated = grad.unsqueeze(x.shape().normalize(dim)).expand(x.shape()).contiguous();
  if (factor != 1.0f) ops::scale_in_place(repeated, factor);
  x.add_grad(repeated);
}

}  // namespace

Variable sum(const Variable& x, int dim) {
  Tape* tape = recording(x);
  Variable out = output(ops::sum(x.value(), dim), tape);
  if (tape != nullptr) {
    tape->record([x, out, dim] {
      if (out.has_grad()) add_repeated_grad(x, out.take_grad(), dim, 1.0f);
    });
  }
  return out;
}

Variable mean(const Variable& x, int dim) {
  Tape* tape = recording(x);
  Variable out = output(ops::mean(x.value(), dim), tape);
  if (tape != nullptr) {
    tape->record([x, out, dim] {
      if (out.has_grad()) add_repeated_grad(x, out.take_grad(), dim, 1.0f / static_cast<float>(x.shape()[dim]));
    });
  }
  return out;
}

Variable softmax(const Variable& x) {
  Tape* tape = recording(x);
  Variable out = output(ops::softmax(x.value()), tape);
  if (tape != nullptr) {
    tape->record([x, out] {
      if (out.has_grad()) x.add_grad(ops::softmax_backward(out.take_grad().contiguous(), out.value()));
    });
  }
  return out;
}

Variable log_softmax(const Variable& x) {
  Tape* tape = recording(x);
  Variable out = output(ops::log_softmax(x.value()), tape);
  if (tape != nullptr) {
    tape->record([x, out] {
      if (out.has_grad()) x.add_grad(ops::log_softmax_backward(out.take_grad().contiguous(), out.value()));
    });
  }
  return out;
}

}  // namespace ondol::functions
