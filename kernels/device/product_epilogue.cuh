// What becomes of finished sums of a product: alpha, bias, activation, residual, beta, rounding.
#pragma once

#include "device/activation.cuh"
#include "device/vector.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// Elements (row, col), (row, col + 1), ... of matrix `index` of the batch. T is the data type, C that of c. With
/// several of them every array must be aligned to the whole vector there.
template <class T, class C, int kCount>
__device__ inline void finish_elements(const GemmArgs& args, int64_t index, int64_t row, int64_t col,
                                       Floats<kCount> value) {
  const int64_t at = index * args.stride_c + row * args.ldc + col;
#pragma unroll
  for (int e = 0; e < kCount; ++e) value[e] *= args.alpha;
  if (args.bias != nullptr) {
    const Floats<kCount> bias = load_floats<kCount>(static_cast<const T*>(args.bias) + col);
#pragma unroll
    for (int e = 0; e < kCount; ++e) value[e] += bias[e];
  }
  if (args.pre_activation != nullptr) store_floats<kCount>(static_cast<C*>(args.pre_activation) + at, value);
  if (args.epilogue != GemmEpilogue::none) {
#pragma unroll
    for (int e = 0; e < kCount; ++e) value[e] = gemm_activation(args.epilogue, value[e]);
  }
  if (args.residual != nullptr) {
    const Floats<kCount> residual = load_floats<kCount>(static_cast<const C*>(args.residual) + at);
#pragma unroll
    for (int e = 0; e < kCount; ++e) value[e] += residual[e];
  }
  C* c = static_cast<C*>(args.c) + at;
  if (args.beta != 0.0f) {
    const Floats<kCount> before = load_floats<kCount>(c);
#pragma unroll
    for (int e = 0; e < kCount; ++e) value[e] += args.beta * before[e];
  }
  store_floats<kCount>(c, value);
}

template <class T, class C>
__device__ inline void finish_element(const GemmArgs& args, int64_t index, int64_t row, int64_t col, float sum) {
  finish_elements<T, C, 1>(args, index, row, col, {{sum}});
}

}  // namespace ondol::ONDOL_CUDA_SPACE
