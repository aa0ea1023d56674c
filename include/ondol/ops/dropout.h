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
///
/// An element has its own number, counted from 0 in contiguous order. A tensor that is part of a larger one is given
/// the numbers that it has there: its first element that of `first`, its rows of `row_length` elements beginning
/// `row_stride` numbers apart (row_length 0: one row).
///
///   RngKey rows = key;     rows.first = 40 * C;                         // rows 40 ... of (N, C)
///   RngKey columns = key;  columns.first = 64, columns.row_length = 32, columns.row_stride = C;    // 64 ... 95 of
///   them
struct RngKey {
  uint64_t seed = 0;
  uint32_t stream = 0;
  Tensor step;
  int64_t first = 0;
  int64_t row_length = 0, row_stride = 0;
};

}  // namespace ondol

namespace ondol::ops {

/// 0 <= p < 1. p == 0 returns x. The rows of the key divide x.
Tensor dropout(const Tensor& x, float p, const RngKey& key);

/// residual + dropout(x) in one pass, to the bit what add(residual, dropout(x, p, key)) gives. Same shapes and dtype.
Tensor dropout_add(const Tensor& x, const Tensor& residual, float p, const RngKey& key);

}  // namespace ondol::ops
