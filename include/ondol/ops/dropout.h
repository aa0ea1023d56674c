// Dropout (Srivastava et al. 2014), inverted: kept elements are divided by 1 - p.
//
//   Tensor y = ops::dropout(x, 0.1f, {.seed = 1, .stream = 7, .step = step});
//   Tensor h = ops::dropout_add(branch, h_before, 0.1f, key);  // closes a residual branch
//
// The mask follows from (seed, stream, step, element); the backward is the same call on the gradient.
#pragma once

#include <cstdint>

#include <ondol/tensor/tensor.h>

namespace ondol {

/// Which numbers of the counter-based generator to draw. `step` is an i64 tensor with one element on the device of the
/// work (undefined: 0), so that a captured step sees a new value each time.
struct RngKey {
  uint64_t seed = 0;
  uint32_t stream = 0;
  Tensor step;
};

}  // namespace ondol

namespace ondol::ops {

/// 0 <= p < 1. p == 0 returns x.
Tensor dropout(const Tensor& x, float p, const RngKey& key);

/// residual + dropout(x) in one pass, to the bit what add(residual, dropout(x, p, key)) gives. Same shapes and dtype.
Tensor dropout_add(const Tensor& x, const Tensor& residual, float p, const RngKey& key);

}  // namespace ondol::ops
