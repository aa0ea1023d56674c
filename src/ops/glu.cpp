#include <ondol/ops/glu.h>

#include "ops/checks.h"

namespace ondol::ops {

namespace {

GluKind glu_kind(Activation kind) {
  switch (kind) {
    case Activation::silu:
      return GluKind::silu;
    case Activation::gelu_tanh:
      return GluKind::gelu_tanh;
    case Activation::gelu_erf:
      return GluKind::gelu_erf;
    case Activation::relu:
      return GluKind::relu;
    case Activation::sigmoid:
      return GluKind::sigmoid;
    case Activation::tanh:
      break;
  }
  throw_error("[glu] there is no gated tanh");
}

const char* second_half(const Tensor& gate_up, int64_t cols) {
  return static_cast<const char*>(gate_up.raw()) + cols * static_cast<int64_t>(dtype_size(gate_up.dtype()));
}

int64_t half_size(const char* op, const Tensor& gate_up) {
  const int64_t size = last_size(op, "gate_up", gate_up);
  ONDOL_CHECK(size % 2 == 0, "[", op, "] gate_up has shape ", gate_up.shape(), ": the last dimension must be even");
  return size / 2;
}

}  // namespace

Tensor glu(const Tensor& gate_up, Activation kind) {
  check_data("glu", "gate_up", gate_up);
  const int64_t cols = half_size("glu", gate_up);
  Tensor out = Tensor::empty(with_last(gate_up.shape(), cols), gate_up.dtype(), gate_up.device());
  if (out.numel() == 0) return out;
  const Tensor in = gate_up.contiguous();
  run_kernel(&KernelTable::glu, in.device(), in.dtype(),
             GluArgs{in.raw(), second_half(in, cols), 2 * cols, out.raw(), out.numel() / cols, cols, glu_kind(kind)});
  return out;
}

Tensor glu_backward(const Tensor& grad_output, const Tensor& gate_up, Activation kind) {
  constexpr const char* op = "glu_backward";
  check_data(op, "gate_up", gate_up);
  const int64_t cols = half_size(op, gate_up);
  check_like(op, "grad_output", grad_output, "gate_up", gate_up);
  check_shape(op, "grad_output", grad_output, with_last(gate_up.shape(), cols));
  Tensor grad = Tensor::empty(gate_up.shape(), gate_up.dtype(), gate_up.device());
  if (grad.numel() == 0) return grad;
  const Tensor in = gate_up.contiguous(), grads = grad_output.contiguous();
  GluBackwardArgs args{};
  args.grad_out = grads.raw();
  args.gate = in.raw();
  args.up = second_half(in, cols);
  args.in_row_stride = args.grad_row_stride = 2 * cols;
  args.grad_gate = grad.raw();
  args.grad_up = const_cast<char*>(second_half(grad, cols));
  args.rows = grad_output.numel() / cols;
  args.cols = cols;
  args.kind = glu_kind(kind);
  run_kernel(&KernelTable::glu_backward, in.device(), in.dtype(), args);
  return grad;
}

}  // namespace ondol::ops
