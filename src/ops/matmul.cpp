#include <ondol/ops/matmul.h>

#include <algorithm>

#include "ops/checks.h"
#include "ops/gemm_epilogue.h"
#include "ops/matrix_view.h"

namespace ondol::ops {

namespace {

GemmArgs gemm_args(const MatrixView& a, const MatrixView& b, const Tensor& c, int64_t ldc) {
  GemmArgs args{};
  args.a = a.data();
  args.b = b.data();
  args.c = c.raw();
  args.c_dtype = c.dtype();
  args.trans_a = a.transposed;
  args.trans_b = b.transposed;
  args.m = a.rows;
  args.n = b.cols;
  args.k = a.cols;
  args.lda = a.ld;
  args.ldb = b.ld;
  args.ldc = ldc;
  args.batch = 1;
  args.alpha = 1.0f;
  return args;
}

void run_gemm(const GemmArgs& args, const Tensor& a) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  run_kernel(&KernelTable::gemm, a.device(), a.dtype(), args);
}

/// Sizes and strides of the dimensions before the last two, broadcast to those of the result.
struct BatchDims {
  int count = 0;
  int64_t size[Shape::kMaxDims];
  int64_t stride_a[Shape::kMaxDims];
  int64_t stride_b[Shape::kMaxDims];
  int64_t stride_c[Shape::kMaxDims];
};

/// The dimension of t that stands at place d of `ndim`, with its size (1 when missing) and stride (0 when repeated).
int64_t batch_size(const Tensor& t, int d, int ndim) {
  const int from = d - (ndim - t.ndim());
  return from < 0 ? 1 : t.size(from);
}
int64_t batch_stride(const Tensor& t, int d, int ndim) {
  const int from = d - (ndim - t.ndim());
  return from < 0 || t.size(from) == 1 ? 0 : t.stride(from);
}

/// Neighbours that are evenly spaced in all three are merged, so that most products are one call.
BatchDims merge_batch(const Tensor& a, const Tensor& b, const Tensor& c) {
  BatchDims dims;
  for (int d = 0; d + 2 < c.ndim(); ++d) {
    const int64_t size = c.size(d);
    if (size == 1) continue;
    const int64_t sa = batch_stride(a, d, c.ndim()), sb = batch_stride(b, d, c.ndim()), sc = c.stride(d);
    const int last = dims.count - 1;
    const bool merges = last >= 0 && dims.stride_a[last] == sa * size && dims.stride_b[last] == sb * size &&
                        dims.stride_c[last] == sc * size;
    const int to = merges ? last : dims.count++;
    dims.size[to] = merges ? dims.size[to] * size : size;
    dims.stride_a[to] = sa;
    dims.stride_b[to] = sb;
    dims.stride_c[to] = sc;
  }
  return dims;
}

void check_pair(const char* op, const Tensor& a, const Tensor& b) {
  check_data(op, "a", a);
  check_like(op, "b", b, "a", a);
  ONDOL_CHECK(a.ndim() >= 2 && b.ndim() >= 2, "[", op, "] shapes ", a.shape(), " and ", b.shape(),
              ": two dimensions or more are needed");
  ONDOL_CHECK(a.size(-1) == b.size(-2), "[", op, "] shapes ", a.shape(), " and ", b.shape(), ": inner sizes ",
              a.size(-1), " and ", b.size(-2), " differ");
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b) {
  check_pair("matmul", a, b);
  const int ndim = std::max(a.ndim(), b.ndim());
  int64_t sizes[Shape::kMaxDims];
  for (int d = 0; d + 2 < ndim; ++d) {
    const int64_t size_a = batch_size(a, d, ndim), size_b = batch_size(b, d, ndim);
    ONDOL_CHECK(size_a == size_b || size_a == 1 || size_b == 1, "[matmul] shapes ", a.shape(), " and ", b.shape(),
                ": leading dimensions do not broadcast");
    sizes[d] = size_a == 1 ? size_b : size_a;
  }
  sizes[ndim - 2] = a.size(-2);
  sizes[ndim - 1] = b.size(-1);
  Tensor c = Tensor::empty(Shape(std::span<const int64_t>(sizes, static_cast<size_t>(ndim))), a.dtype(), a.device());
  if (c.numel() == 0) return c;

  if (b.ndim() == 2 && a.ndim() > 2) {  // one right operand for all: the left ones are one tall matrix
    const MatrixView left = rows_view(a), right = matrix_view(b);
    run_gemm(gemm_args(left, right, c, c.size(-1)), a);
    return c;
  }
  const MatrixView left = matrix_view(a), right = matrix_view(b);
  const BatchDims dims = merge_batch(left.tensor, right.tensor, c);
  GemmArgs args = gemm_args(left, right, c, c.size(-1));
  const int inner = dims.count - 1;
  if (inner >= 0) {
    args.batch = dims.size[inner];
    args.stride_a = dims.stride_a[inner];
    args.stride_b = dims.stride_b[inner];
    args.stride_c = dims.stride_c[inner];
  }
  const int64_t element = static_cast<int64_t>(dtype_size(a.dtype()));
  int64_t calls = 1;
  for (int d = 0; d < inner; ++d) calls *= dims.size[d];
  for (int64_t call = 0; call < calls; ++call) {
    int64_t rest = call, offset_a = 0, offset_b = 0, offset_c = 0;
    for (int d = inner - 1; d >= 0; --d) {
      const int64_t index = rest % dims.size[d];
      rest /= dims.size[d];
      offset_a += index * dims.stride_a[d];
      offset_b += index * dims.stride_b[d];
      offset_c += index * dims.stride_c[d];
    }
    GemmArgs one = args;
    one.a = static_cast<const char*>(args.a) + offset_a * element;
    one.b = static_cast<const char*>(args.b) + offset_b * element;
    one.c = static_cast<char*>(args.c) + offset_c * element;
    run_gemm(one, a);
  }
  return c;
}

void matmul_into(const Tensor& out, const Tensor& a, const Tensor& b, bool accumulate) {
  constexpr const char* op = "matmul_into";
  check_pair(op, a, b);
  ONDOL_CHECK(a.ndim() == 2 && b.ndim() == 2, "[", op, "] shapes ", a.shape(), " and ", b.shape(),
              ": two dimensions are needed");
  ONDOL_CHECK(out.defined() && (out.dtype() == DType::f32 || out.dtype() == a.dtype()), "[", op,
              "] the result must be f32 or of the operands' dtype");
  check_dtype(op, "out", out, out.dtype(), a);
  check_shape(op, "out", out, {a.size(0), b.size(1)});
  ONDOL_CHECK(out.size(1) <= 1 || out.stride(1) == 1, "[", op, "] rows of the result ", out.shape(),
              " must be contiguous");
  ONDOL_CHECK(!accumulate || out.dtype() == DType::f32, "[", op, "] only f32 can be accumulated");
  const MatrixView left = matrix_view(a), right = matrix_view(b);
  GemmArgs args = gemm_args(left, right, out, out.size(0) <= 1 ? std::max<int64_t>(out.size(1), 1) : out.stride(0));
  args.beta = accumulate ? 1.0f : 0.0f;
  run_gemm(args, a);
}

namespace {

void check_linear(const char* op, const Tensor& x, const char* x_name, const Tensor& weight, int64_t weight_size) {
  check_data(op, x_name, x);
  check_like(op, "weight", weight, x_name, x);
  ONDOL_CHECK(weight.ndim() == 2, "[", op, "] weight has shape ", weight.shape(), ": (out, in) is needed");
  ONDOL_CHECK(x.ndim() >= 1 && x.size(-1) == weight.size(static_cast<int>(weight_size)), "[", op, "] weight has shape ",
              weight.shape(), ", ", x_name, " ", x.shape(), ": last dimension must be ",
              weight.size(static_cast<int>(weight_size)));
}

}  // namespace

Tensor linear(const Tensor& x, const LinearArguments& arguments) {
  constexpr const char* op = "linear";
  const Tensor& weight = arguments.weight;
  check_linear(op, x, "x", weight, 1);
  std::optional<GemmEpilogue> epilogue = GemmEpilogue::none;
  if (arguments.activation) epilogue = gemm_epilogue(*arguments.activation);
  if (!epilogue) {
    LinearArguments plain = arguments;
    plain.activation.reset();
    plain.residual = Tensor();
    plain.pre_activation = nullptr;
    const Tensor before = linear(x, plain);
    if (arguments.pre_activation != nullptr) *arguments.pre_activation = before;
    Tensor out = activation(before, *arguments.activation);
    if (arguments.residual.defined()) accumulate(out, arguments.residual);
    return out;
  }
  const int64_t out_size = weight.size(0);
  const Shape shape = with_last(x.shape(), out_size);
  Tensor out = Tensor::empty(shape, x.dtype(), x.device());
  Tensor bias, residual;
  if (arguments.bias.defined()) {
    check_like(op, "bias", arguments.bias, "x", x);
    check_shape(op, "bias", arguments.bias, {out_size});
    bias = arguments.bias.contiguous();
  }
  if (arguments.residual.defined()) {
    check_like(op, "residual", arguments.residual, "x", x);
    check_shape(op, "residual", arguments.residual, shape);
    residual = arguments.residual.contiguous();
  }
  Tensor before;
  if (arguments.pre_activation != nullptr && arguments.activation) {
    before = Tensor::empty(shape, x.dtype(), x.device());
    *arguments.pre_activation = before;
  }
  const MatrixView left = rows_view(x), right = matrix_view(weight.transpose(0, 1));
  GemmArgs args = gemm_args(left, right, out, out_size);
  args.bias = bias.raw();
  args.residual = residual.raw();
  args.epilogue = *epilogue;
  args.pre_activation = before.raw();
  run_gemm(args, x);
  return out;
}

Tensor linear_backward_input(const Tensor& grad_output, const Tensor& weight) {
  check_linear("linear_backward_input", grad_output, "grad_output", weight, 0);
  const int64_t in_size = weight.size(1);
  Tensor grad = Tensor::empty(with_last(grad_output.shape(), in_size), grad_output.dtype(), grad_output.device());
  run_gemm(gemm_args(rows_view(grad_output), matrix_view(weight), grad, in_size), grad_output);
  return grad;
}

void linear_backward_weight_into(const Tensor& grad_weight, const Tensor& grad_output, const Tensor& x,
                                 bool accumulate) {
  constexpr const char* op = "linear_backward_weight";
  check_data(op, "x", x);
  check_like(op, "grad_output", grad_output, "x", x);
  check_dtype(op, "grad_weight", grad_weight, DType::f32, x);
  ONDOL_CHECK(x.ndim() >= 1 && grad_output.ndim() >= 1, "[", op, "] x and grad_output need a dimension");
  ONDOL_CHECK(leading_size(x.shape()) == leading_size(grad_output.shape()), "[", op, "] x has shape ", x.shape(),
              ", grad_output ", grad_output.shape(), ": leading dimensions differ");
  check_shape(op, "grad_weight", grad_weight, {grad_output.size(-1), x.size(-1)});
  const MatrixView grads = rows_view(grad_output), inputs = rows_view(x);
  // A weight kept as (in, out) and seen transposed has its gradient the same way.
  const MatrixView target = matrix_view(grad_weight);
  ONDOL_CHECK(target.tensor.raw() == grad_weight.raw(), "[", op, "] grad_weight ", grad_weight.shape(),
              " must have a unit stride");
  MatrixView left = target.transposed ? inputs : grads;
  const MatrixView& right = target.transposed ? grads : inputs;
  std::swap(left.rows, left.cols);
  left.transposed = true;
  GemmArgs args = gemm_args(left, right, grad_weight, target.ld);
  args.beta = accumulate ? 1.0f : 0.0f;
  run_gemm(args, x);
}

}  // namespace ondol::ops
