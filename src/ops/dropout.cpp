#include <ondol/ops/dropout.h>

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
             DropoutArgs{in.raw(), out.raw(), x.numel(), p, rng_args("dropout", key, x)});
  return out;
}

}  // namespace ondol::ops
