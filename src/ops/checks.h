// What every op checks before it calls a kernel. Messages read `[rms_norm] weight has shape (32), x (4, 48): ...`.
#pragma once

#include <ondol/tensor/tensor.h>

#include "backend/kernel_table.h"

namespace ondol::ops {

inline bool is_data_dtype(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

/// Defined, and f32 or bf16.
inline void check_data(const char* op, const char* name, const Tensor& x) {
  ONDOL_CHECK(x.defined(), "[", op, "] ", name, " is undefined");
  ONDOL_CHECK(is_data_dtype(x.dtype()), "[", op, "] ", name, " holds ", dtype_name(x.dtype()),
              ": f32 or bf16 is needed");
}

/// Defined, of the given dtype, on x's device.
inline void check_dtype(const char* op, const char* name, const Tensor& t, DType dtype, const Tensor& x) {
  ONDOL_CHECK(t.defined(), "[", op, "] ", name, " is undefined");
  ONDOL_CHECK(t.dtype() == dtype, "[", op, "] ", name, " ", t.shape(), " holds ", dtype_name(t.dtype()), ": ",
              dtype_name(dtype), " is needed");
  ONDOL_CHECK(t.device() == x.device(), "[", op, "] ", name, " is on ", to_string(t.device()), ", not on ",
              to_string(x.device()));
}

/// As check_dtype with the dtype of x.
inline void check_like(const char* op, const char* name, const Tensor& t, const char* x_name, const Tensor& x) {
  ONDOL_CHECK(t.defined(), "[", op, "] ", name, " is undefined");
  ONDOL_CHECK(t.dtype() == x.dtype(), "[", op, "] ", name, " holds ", dtype_name(t.dtype()), ", ", x_name, " ",
              dtype_name(x.dtype()));
  ONDOL_CHECK(t.device() == x.device(), "[", op, "] ", name, " is on ", to_string(t.device()), ", ", x_name, " on ",
              to_string(x.device()));
}

inline void check_shape(const char* op, const char* name, const Tensor& t, const Shape& wanted) {
  ONDOL_CHECK(t.shape() == wanted, "[", op, "] ", name, " has shape ", t.shape(), ": ", wanted, " is needed");
}

inline void check_contiguous(const char* op, const char* name, const Tensor& t) {
  ONDOL_CHECK(t.is_contiguous(), "[", op, "] ", name, " ", t.shape(), " must be contiguous");
}

/// The last dimension; the tensor needs one.
inline int64_t last_size(const char* op, const char* name, const Tensor& x) {
  ONDOL_CHECK(x.ndim() >= 1, "[", op, "] ", name, " has no dimensions");
  return x.size(-1);
}

/// The product of all sizes but the last.
inline int64_t leading_size(const Shape& shape) {
  int64_t rows = 1;
  for (int d = 0; d + 1 < shape.ndim(); ++d) rows *= shape.begin()[d];
  return rows;
}

/// shape without dimension `dim` (already normalised).
inline Shape without_dimension(const Shape& shape, int dim) {
  int64_t sizes[Shape::kMaxDims];
  int count = 0;
  for (int d = 0; d < shape.ndim(); ++d) {
    if (d != dim) sizes[count++] = shape.begin()[d];
  }
  return Shape(std::span<const int64_t>(sizes, static_cast<size_t>(count)));
}

/// shape with another last size.
inline Shape with_last(const Shape& shape, int64_t size) {
  Shape out = shape;
  out.set(-1, size);
  return out;
}

}  // namespace ondol::ops
