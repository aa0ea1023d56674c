// How a tensor's last two dimensions are handed to the gemm row: pointer, leading dimension, transposed or not.
#pragma once

#include <ondol/tensor/tensor.h>

namespace ondol::ops {

struct MatrixView {
  Tensor tensor;  // what is read: the given tensor, or a contiguous copy when its layout does not serve
  int64_t rows, cols, ld;
  bool transposed;

  const void* data() const { return tensor.raw(); }
};

/// The last two dimensions of x. A unit stride in either of them serves; other layouts are copied.
inline MatrixView matrix_view(const Tensor& x) {
  const int64_t rows = x.size(-2), cols = x.size(-1);
  const int64_t row_stride = x.stride(-2), col_stride = x.stride(-1);
  const bool plain = (cols <= 1 || col_stride == 1) && (rows <= 1 || row_stride >= cols);
  if (plain) return {x, rows, cols, rows <= 1 ? std::max<int64_t>(cols, 1) : row_stride, false};
  const bool flipped = (rows <= 1 || row_stride == 1) && (cols <= 1 || col_stride >= rows);
  if (flipped) return {x, rows, cols, cols <= 1 ? std::max<int64_t>(rows, 1) : col_stride, true};
  return {x.clone(), rows, cols, std::max<int64_t>(cols, 1), false};
}

/// x (.., C) as one matrix (rows, C) with contiguous rows; copied only when the leading dimensions are not evenly
/// spaced.
inline MatrixView rows_view(const Tensor& x) {
  const int64_t cols = x.size(-1);
  int64_t rows = 1, ld = 0;
  bool even = cols <= 1 || x.stride(-1) == 1;
  for (int d = x.ndim() - 2; even && d >= 0; --d) {
    if (x.size(d) == 1) continue;
    if (ld == 0) ld = x.stride(d);
    even = x.stride(d) == ld * rows;
    rows *= x.size(d);
  }
  if (even && (ld == 0 || ld >= cols)) return {x, rows, cols, ld == 0 ? std::max<int64_t>(cols, 1) : ld, false};
  return {x.clone(), cols == 0 ? 0 : x.numel() / cols, cols, std::max<int64_t>(cols, 1), false};
}

}  // namespace ondol::ops
