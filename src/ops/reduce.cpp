#include <ondol/ops/reduce.h>

#include "ops/checks.h"
#include "ops/index_checks.h"

namespace ondol::ops {

namespace {

/// (outer, size of dim, inner).
struct Split {
  int dim;
  int64_t outer = 1, size, inner = 1;

  Split(const Tensor& x, int given_dim) : dim(x.shape().normalize(given_dim)), size(x.size(dim)) {
    for (int d = 0; d < dim; ++d) outer *= x.size(d);
    for (int d = dim + 1; d < x.ndim(); ++d) inner *= x.size(d);
  }
};

Tensor reduce(const char* op, const Tensor& x, int dim, ReduceKind kind, DType out_dtype) {
  check_data(op, "x", x);
  const Split split(x, dim);
  ONDOL_CHECK(kind != ReduceKind::max || split.size > 0 || split.outer * split.inner == 0, "[", op, "] dimension ", dim,
              " of shape ", x.shape(), " is empty");
  Tensor out = Tensor::empty(without_dimension(x.shape(), split.dim), out_dtype, x.device());
  const Tensor in = x.contiguous();
  run_kernel(&KernelTable::reduce, x.device(), x.dtype(),
             ReduceArgs{in.raw(), out.raw(), out_dtype, split.outer, split.size, split.inner, kind, false});
  return out;
}

Tensor run_softmax(const char* op, const Tensor& x, bool log) {
  check_data(op, "x", x);
  const int64_t cols = last_size(op, "x", x);
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return out;
  const Tensor in = x.contiguous();
  run_kernel(&KernelTable::softmax, x.device(), x.dtype(),
             SoftmaxArgs{in.raw(), out.raw(), x.numel() / cols, cols, log});
  return out;
}

Tensor run_softmax_backward(const char* op, const Tensor& grad_output, const Tensor& out, bool log) {
  check_data(op, "out", out);
  check_like(op, "grad_output", grad_output, "out", out);
  check_shape(op, "grad_output", grad_output, out.shape());
  const int64_t cols = last_size(op, "out", out);
  Tensor grad = Tensor::empty(out.shape(), out.dtype(), out.device());
  if (out.numel() == 0) return grad;
  const Tensor values = out.contiguous(), grads = grad_output.contiguous();
  run_kernel(&KernelTable::softmax_backward, out.device(), out.dtype(),
             SoftmaxBackwardArgs{grads.raw(), values.raw(), grad.raw(), out.numel() / cols, cols, log});
  return grad;
}

/// index has the shape of x but for dimension dim.
void check_index(const char* op, const Tensor& index, const char* x_name, const Tensor& x, const Split& split) {
  check_dtype(op, "index", index, DType::i32, x);
  bool matches = index.ndim() == x.ndim();
  for (int d = 0; matches && d < x.ndim(); ++d) matches = d == split.dim || index.size(d) == x.size(d);
  ONDOL_CHECK(matches, "[", op, "] index has shape ", index.shape(), ", ", x_name, " ", x.shape(),
              ": they may differ in dimension ", split.dim, " only");
}

}  // namespace

Tensor sum(const Tensor& x, int dim) { return reduce("sum", x, dim, ReduceKind::sum, x.dtype()); }
Tensor sum_f32(const Tensor& x, int dim) { return reduce("sum_f32", x, dim, ReduceKind::sum, DType::f32); }
Tensor mean(const Tensor& x, int dim) { return reduce("mean", x, dim, ReduceKind::mean, x.dtype()); }
Tensor max(const Tensor& x, int dim) { return reduce("max", x, dim, ReduceKind::max, x.dtype()); }

void sum_rows_into(const Tensor& target, const Tensor& x, bool accumulate) {
  check_data("sum_rows_into", "x", x);
  check_dtype("sum_rows_into", "target", target, DType::f32, x);
  const int64_t cols = last_size("sum_rows_into", "x", x);
  check_shape("sum_rows_into", "target", target, {cols});
  check_contiguous("sum_rows_into", "target", target);
  if (cols == 0) return;
  const Tensor in = x.contiguous();
  run_kernel(
      &KernelTable::reduce, x.device(), x.dtype(),
      ReduceArgs{in.raw(), target.raw(), DType::f32, 1, leading_size(x.shape()), cols, ReduceKind::sum, accumulate});
}

Tensor argmax(const Tensor& x) {
  check_data("argmax", "x", x);
  const int64_t cols = last_size("argmax", "x", x);
  Tensor out = Tensor::empty(without_dimension(x.shape(), x.ndim() - 1), DType::i32, x.device());
  if (out.numel() == 0) return out;
  ONDOL_CHECK(cols > 0, "[argmax] rows of shape ", x.shape(), " are empty");
  const Tensor in = x.contiguous();
  run_kernel(&KernelTable::argmax, x.device(), x.dtype(), ArgmaxArgs{in.raw(), out.data<int32_t>(), out.numel(), cols});
  return out;
}

Tensor softmax(const Tensor& x) { return run_softmax("softmax", x, false); }
Tensor log_softmax(const Tensor& x) { return run_softmax("log_softmax", x, true); }
Tensor softmax_backward(const Tensor& grad_output, const Tensor& out) {
  return run_softmax_backward("softmax_backward", grad_output, out, false);
}
Tensor log_softmax_backward(const Tensor& grad_output, const Tensor& out) {
  return run_softmax_backward("log_softmax_backward", grad_output, out, true);
}

Tensor gather(const Tensor& x, int dim, const Tensor& index) {
  check_data("gather", "x", x);
  const Split split(x, dim);
  check_index("gather", index, "x", x, split);
  Tensor out = Tensor::empty(index.shape(), x.dtype(), x.device());
  if (out.numel() == 0) return out;
  const Tensor in = x.contiguous(), places = index.contiguous();
  check_range_on_host("gather", "index", places, split.size);
  run_kernel(&KernelTable::gather, x.device(), x.dtype(),
             GatherArgs{in.raw(), places.data<int32_t>(), out.raw(), split.outer, split.size, index.size(split.dim),
                        split.inner});
  return out;
}

void scatter_add(const Tensor& target, int dim, const Tensor& index, const Tensor& source) {
  check_data("scatter_add", "target", target);
  const Split split(target, dim);
  check_index("scatter_add", index, "target", target, split);
  check_like("scatter_add", "source", source, "target", target);
  check_shape("scatter_add", "source", source, index.shape());
  check_contiguous("scatter_add", "target", target);
  if (index.numel() == 0) return;
  const Tensor in = source.contiguous(), places = index.contiguous();
  check_range_on_host("scatter_add", "index", places, split.size);
  run_kernel(&KernelTable::scatter_add, target.device(), target.dtype(),
             ScatterAddArgs{in.raw(), places.data<int32_t>(), target.raw(), split.outer, index.size(split.dim),
                            split.size, split.inner});
}

Tensor concat(const std::vector<Tensor>& tensors, int dim) {
  ONDOL_CHECK(!tensors.empty(), "[concat] no tensors");
  const Tensor& first = tensors.front();
  ONDOL_CHECK(first.defined(), "[concat] tensor 0 is undefined");
  const int at = first.shape().normalize(dim);
  Shape shape = first.shape();
  int64_t total = 0;
  for (const Tensor& t : tensors) {
    check_like("concat", "a tensor", t, "the first", first);
    Shape expected = first.shape();
    if (t.ndim() == first.ndim()) expected.set(at, t.size(at));
    ONDOL_CHECK(t.shape() == expected, "[concat] shapes ", first.shape(), " and ", t.shape(),
                " differ outside dimension ", at);
    total += t.size(at);
  }
  shape.set(at, total);
  Tensor out = Tensor::empty(shape, first.dtype(), first.device());
  int64_t start = 0;
  for (const Tensor& t : tensors) {
    out.narrow(at, start, t.size(at)).copy_from(t);
    start += t.size(at);
  }
  return out;
}

}  // namespace ondol::ops
