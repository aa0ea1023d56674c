#include <ondol/ops/dropout.h>
#include <ondol/ops/elementwise.h>

#include "ops/rng_key.h"

namespace ondol::ops {

Tensor dropout(const Tensor& x, float p, const RngKey& key) {
  check_data("dropout", "x", x);
  check_probability("dropout", p);
  if (p == 0.0f) return x;
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return out;
  const Tensor in = x.contiguous();
  run_kernel(&KernelTable::dropout, x.device(), x.dtype(),
             DropoutArgs{in.raw(), nullptr, out.raw(), x.numel(), p, rng_args("dropout", key, x)});
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
  run_kernel(&KernelTable::dropout, x.device(), x.dtype(),
             DropoutArgs{in.raw(), addend.raw(), out.raw(), x.numel(), p, rng_args(op, key, x)});
  return out;
}

}  // namespace ondol::ops
