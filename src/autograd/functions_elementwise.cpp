#include <ondol/autograd/functions.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

namespace {

void add_broadcast_grad(const Variable& operand, const Tensor& gradient) {
  if (operand.requires_grad()) operand.add_grad(ops::sum_to_shape(gradient, operand.shape()));
}

}  // namespace

Variable add(const Variable& a, const Variable& b) {
  Tape* tape = recording(a, b);
  Variable out = output(ops::add(a.value(), b.value()), tape);
  if (tape != nullptr) {
    tape->record([a, b, out] {
      if (!out.has_grad()) return;
      const Tensor grad = out.take_grad();
      add_broadcast_grad(a, grad);
      add_broadcast_grad(b, grad);
    });
  }
  return out;
}

Variable sub(const Variable& a, const Variable& b) {
  Tape* tape = recording(a, b);
  Variable out = output(ops::sub(a.value(), b.value()), tape);
  if (tape != nullptr) {
    tape->record([a, b, out] {
      if (!out.has_grad()) return;
      const Tensor grad = out.take_grad();
      add_broadcast_grad(a, grad);
      if (b.requires_grad()) add_broadcast_grad(b, ops::scale(grad, -1.0f));
    });
  }
  return out;
}

Variable mul(const Variable& a, const Variable& b) {
  Tape* tape = recording(a, b);
  Variable out = output(ops::mul(a.value(), b.value()), tape);
  if (tape != nullptr) {
    tape->record([a, b, out] {
      if (!out.has_grad()) return;
      const Tensor grad = out.take_grad();
      if (a.requires_grad()) add_broadcast_grad(a, ops::mul(grad, b.value()));
      if (b.requires_grad()) add_broadcast_grad(b, ops::mul(grad, a.value()));
    });
  }
  return out;
}

Variable scale(const Variable& x, float factor) {
  Tape* tape = recording(x);
  Variable out = output(ops::scale(x.value(), factor), tape);
  if (tape != nullptr) {
    tape->record([x, out, factor] {
      if (out.has_grad()) x.add_grad(ops::scale(out.take_grad(), factor));
    });
  }
  return out;
}

Variable activation(const Variable& x, Activation kind) {
  Tape* tape = recording(x);
  Variable out = output(ops::activation(x.value(), kind), tape);
  if (tape != nullptr) {
    tape->record([x, out, kind] {
      if (out.has_grad()) x.add_grad(ops::activation_backward(out.take_grad(), x.value(), kind));
    });
  }
  return out;
}

Variable dropout(const Variable& x, float p, const RngKey& key) {
  if (p == 0.0f) return x;
  Tape* tape = recording(x);
  Variable out = output(ops::dropout(x.value(), p, key), tape);
  if (tape != nullptr) {
    tape->record([x, out, p, key] {
      if (out.has_grad()) x.add_grad(ops::dropout(out.take_grad(), p, key));
    });
  }
  return out;
}

Variable dropout_add(const Variable& x, const Variable& residual, float p, const RngKey& key) {
  Tape* tape = recording(x, residual);
  Variable out = output(ops::dropout_add(x.value(), residual.value(), p, key), tape);
  if (tape != nullptr) {
    tape->record([x, residual, out, p, key] {
      if (!out.has_grad()) return;
      const Tensor grad = out.take_grad();
      if (x.requires_grad()) x.add_grad(ops::dropout(grad, p, key));
      if (residual.requires_grad()) residual.add_grad(grad);
    });
  }
  return out;
}

}  // namespace ondol::functions
