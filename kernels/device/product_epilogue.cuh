// What becomes of one finished sum of a product: alpha, bias, activation, residual, beta, rounding.
#pragma once

#include "device/activation.cuh"
#include "device/convert.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// Element (row, col) of matrix `index` of the batch. T is the data type, C that of c.
template <class T, class C>
__device__ inline void finish_element(const GemmArgs& args, int64_t index, int64_t row, int64_t col, float sum) {
  const int64_t at = index * args.stride_c + row * args.ldc + col;
  float value = args.alpha * sum;
  if (args.bias != nullptr) value += to_float(static_cast<const T*>(args.bias)[col]);
  if (args.pre_activation != nullptr) static_cast<C*>(args.pre_activation)[at] = from_float<C>(value);
  value = gemm_activation(args.epilogue, value);
  if (args.residual != nullptr) value += to_float(static_cast<const C*>(args.residual)[at]);
  C* c = static_cast<C*>(args.c) + at;
  if (args.beta != 0.0f) value += args.beta * to_float(*c);
  *c = from_float<C>(value);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
