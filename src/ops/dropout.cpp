#include <ondol/ops/dropout.h>
#include <ondol/ops/elementwise.h>

#include "ops/rng_key.h"

namespace ondol::ops {

namespace {

DropoutArgs dropout_args(const char* op, const Tensor& x, const void* residual, const Tensor& out, float p,
                         const RngKey& key) {
  DropoutArgs args{x.raw(), residual, out.raw(), x.numel(), p, rng_args(op, key, x), key.first, x.numel(), 0};
  if (key.row_length != 0) {
    ONDOL_CHECK(key.row_length > 0 && x.numel() % key.row_length == 0, "[", op, "] the random key's rows of ",
                key.row_length, " elements do not divide ", x.shape());
    args.row_length = key.row_length;
    args.row_stride = key.row_stride;
  }
  return args;
}

}  // namespace

Tensor dropout(const Tensor& x, float p, const RngKey& key) {
  check_data("dropout", "x", x);
  check_probability("dropout", p);
  if (p == 0.0f) return x;
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return out;
  const Tensor in = x.contiguous();
  run_kernel(&KernelTable::dropout, x.device(), x.dtype(), dropout_args("dropout", in, nullptr, out, p, key));
  return out;
}

Tensor dropout_add(const Tensor& x, const Tensor& residual, float p, const RngKey& key) {
  constexpr const char* op = "dropout_add";
  check_data(op, "x", x);
  check_like(op, "residual", residual, "x", x);
  check_shape(op, "residual", residual, x.shape());
  check_probability(op, p);
  if (p == 0.0f) return add(residual, x);
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return out;
  const Tensor in = x.contiguous(), addend = residual.contiguous();
  run_kernel(&KernelTable::dropout, x.device(), x.dtype(), dropout_args(op, in, addend.raw(), out, p, key));
  return out;
}

}  // namespace ondol::ops
