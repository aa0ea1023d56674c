#include <ondol/ops/elementwise.h>

#include "ops/checks.h"

namespace ondol {

Activation activation_from_name(const std::string& name) {
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu_erf;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return Activation::gelu_tanh;
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  if (name == "sigmoid") return Activation::sigmoid;
  throw UsageError(concat("unknown activation \"", name, "\""),
                   "known: gelu, gelu_new, gelu_pytorch_tanh, gelu_fast, relu, silu, swish, tanh, sigmoid");
}

}  // namespace ondol

namespace ondol::ops {

namespace {

Shape broadcast_shape(const char* op, const Tensor& a, const Tensor& b) {
  const int ndim = std::max(a.ndim(), b.ndim());
  int64_t sizes[Shape::kMaxDims];
  for (int d = 0; d < ndim; ++d) {
    const int from_a = d - (ndim - a.ndim()), from_b = d - (ndim - b.ndim());
    const int64_t size_a = from_a < 0 ? 1 : a.size(from_a), size_b = from_b < 0 ? 1 : b.size(from_b);
    ONDOL_CHECK(size_a == size_b || size_a == 1 || size_b == 1, "[", op, "] shapes ", a.shape(), " and ", b.shape(),
                " do not broadcast");
    sizes[d] = size_a == 1 ? size_b : size_a;
  }
  return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(ndim)));
}

/// out = a (kind) b; out is contiguous and has the broadcast shape.
void run_binary(const Tensor& a, const Tensor& b, const Tensor& out, BinaryKind kind) {
  if (out.numel() == 0) return;
  BinaryArgs args{};
  args.a = a.raw();
  args.b = b.raw();
  args.out = out.raw();
  args.kind = kind;
  if (a.shape() == b.shape() && a.is_contiguous() && b.is_contiguous()) {
    args.ndim = 1;
    args.shape[0] = out.numel();
    args.a_stride[0] = args.b_stride[0] = 1;
  } else {
    args.ndim = out.ndim();
    const auto stride_in = [&out](const Tensor& t, int d) {
      const int from = d - (out.ndim() - t.ndim());
      return from < 0 || (t.size(from) == 1 && out.size(d) != 1) ? 0 : t.stride(from);
    };
    for (int d = 0; d < args.ndim; ++d) {
      args.shape[d] = out.size(d);
      args.a_stride[d] = stride_in(a, d);
      args.b_stride[d] = stride_in(b, d);
    }
  }
  run_kernel(&KernelTable::binary, out.device(), out.dtype(), args);
}

Tensor binary(const char* op, const Tensor& a, const Tensor& b, BinaryKind kind) {
  if (!a.defined() || a.dtype() != DType::f64) check_data(op, "a", a);
  check_like(op, "b", b, "a", a);
  Tensor out = Tensor::empty(a.shape() == b.shape() ? a.shape() : broadcast_shape(op, a, b), a.dtype(), a.device());
  run_binary(a, b, out, kind);
  return out;
}

void run_unary(const Tensor& in, const Tensor& out, UnaryKind kind, float parameter) {
  if (in.numel() == 0) return;
  run_kernel(&KernelTable::unary, in.device(), in.dtype(), UnaryArgs{in.raw(), out.raw(), in.numel(), kind, parameter});
}

Tensor unary(const char* op, const Tensor& x, UnaryKind kind, float parameter = 0.0f) {
  check_data(op, "x", x);
  const Tensor in = x.contiguous();
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  run_unary(in, out, kind, parameter);
  return out;
}

UnaryKind unary_kind(Activation kind) {
  switch (kind) {
    case Activation::relu:
      return UnaryKind::relu;
    case Activation::gelu_erf:
      return UnaryKind::gelu_erf;
    case Activation::gelu_tanh:
      return UnaryKind::gelu_tanh;
    case Activation::silu:
      return UnaryKind::silu;
    case Activation::tanh:
      return UnaryKind::tanh;
    case Activation::sigmoid:
      return UnaryKind::sigmoid;
  }
  throw_error("[activation] unknown kind ", static_cast<int>(kind));
}

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) { return binary("add", a, b, BinaryKind::add); }
Tensor sub(const Tensor& a, const Tensor& b) { return binary("sub", a, b, BinaryKind::sub); }
Tensor mul(const Tensor& a, const Tensor& b) { return binary("mul", a, b, BinaryKind::mul); }
Tensor div(const Tensor& a, const Tensor& b) { return binary("div", a, b, BinaryKind::div); }

Tensor scale(const Tensor& x, float factor) { return unary("scale", x, UnaryKind::scale, factor); }
Tensor add_scalar(const Tensor& x, float addend) { return unary("add_scalar", x, UnaryKind::add_scalar, addend); }
Tensor exp(const Tensor& x) { return unary("exp", x, UnaryKind::exp); }
Tensor log(const Tensor& x) { return unary("log", x, UnaryKind::log); }
Tensor sqrt(const Tensor& x) { return unary("sqrt", x, UnaryKind::sqrt); }
Tensor square(const Tensor& x) { return unary("square", x, UnaryKind::square); }

void accumulate(const Tensor& target, const Tensor& source) {
  check_data("accumulate", "target", target);
  check_data("accumulate", "source", source);
  check_shape("accumulate", "source", source, target.shape());
  check_contiguous("accumulate", "target", target);
  const bool widen = target.dtype() == DType::f32 && source.dtype() != DType::f32;
  const Tensor addend = widen ? source.to(DType::f32) : source;
  check_like("accumulate", "source", addend, "target", target);
  run_binary(target, addend, target, BinaryKind::add);
}

void scale_in_place(const Tensor& target, float factor) {
  check_data("scale_in_place", "target", target);
  check_contiguous("scale_in_place", "target", target);
  run_unary(target, target, UnaryKind::scale, factor);
}

Tensor activation(const Tensor& x, Activation kind) { return unary("activation", x, unary_kind(kind)); }

Tensor activation_backward(const Tensor& grad_output, const Tensor& x, Activation kind) {
  check_data("activation_backward", "x", x);
  check_like("activation_backward", "grad_output", grad_output, "x", x);
  check_shape("activation_backward", "grad_output", grad_output, x.shape());
  Tensor grad = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return grad;
  const Tensor in = x.contiguous(), grad_in = grad_output.contiguous();
  run_kernel(&KernelTable::unary_backward, x.device(), x.dtype(),
             UnaryBackwardArgs{grad_in.raw(), in.raw(), grad.raw(), x.numel(), unary_kind(kind), 0.0f});
  return grad;
}

void activation_backward_in_place(const Tensor& x, const Tensor& grad_output, Activation kind,
                                  const Tensor& grad_bias, bool accumulate) {
  constexpr const char* op = "activation_backward_in_place";
  check_data(op, "x", x);
  check_contiguous(op, "x", x);
  check_like(op, "grad_output", grad_output, "x", x);
  check_shape(op, "grad_output", grad_output, x.shape());
  const Tensor grad = grad_output.contiguous();
  UnaryBackwardArgs args{grad.raw(), x.raw(), x.raw(), x.numel(), unary_kind(kind), 0.0f};
  if (grad_bias.defined()) {
    args.cols = last_size(op, "x", x);
    check_dtype(op, "grad_bias", grad_bias, DType::f32, x);
    check_shape(op, "grad_bias", grad_bias, {args.cols});
    check_contiguous(op, "grad_bias", grad_bias);
    args.grad_bias = grad_bias.data<float>();
    args.accumulate = accumulate;
    if (args.cols == 0) return;
  } else if (args.count == 0) {
    return;
  }
  run_kernel(&KernelTable::unary_backward, x.device(), x.dtype(), args);
}

Tensor sum_to_shape(const Tensor& grad_output, const Shape& shape) {
  check_data("sum_to_shape", "grad_output", grad_output);
  if (grad_output.shape() == shape) return grad_output;
  const int missing = grad_output.ndim() - shape.ndim();
  ONDOL_CHECK(missing >= 0, "[sum_to_shape] ", grad_output.shape(), " is no broadcast of ", shape);
  // From the right, runs of dimensions that were expanded are summed at once; sizes of 1 join any run.
  Tensor sum = grad_output.contiguous();
  int64_t inner = 1;
  int d = grad_output.ndim() - 1;
  const auto expanded = [&](int dim) {
    const int64_t size = grad_output.size(dim), wanted = dim < missing ? 1 : shape[dim - missing];
    ONDOL_CHECK(size == wanted || wanted == 1, "[sum_to_shape] ", grad_output.shape(), " is no broadcast of ", shape);
    return size != wanted;
  };
  while (d >= 0) {
    if (!expanded(d)) {
      inner *= grad_output.size(d--);
      continue;
    }
    int64_t reduced = 1;
    while (d >= 0 && (expanded(d) || grad_output.size(d) == 1)) reduced *= grad_output.size(d--);
    int64_t outer = 1;
    for (int left = 0; left <= d; ++left) outer *= grad_output.size(left);
    Tensor next = Tensor::empty({outer * inner}, DType::f32, sum.device());
    run_kernel(&KernelTable::reduce, sum.device(), sum.dtype(),
               ReduceArgs{sum.raw(), next.raw(), DType::f32, outer, reduced, inner, ReduceKind::sum, false});
    sum = std::move(next);
  }
  return sum.reshape(shape).to(grad_output.dtype());
}

}  // namespace ondol::ops
