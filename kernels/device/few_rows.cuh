// Products with few rows of a: several warps share the k of a few columns of c, each lane holding sums of its own.
#pragma once

#include "device/block.cuh"
#include "device/product_epilogue.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr int kFewRowsWarps = 4;
inline constexpr int kFewRowsThreads = 32 * kFewRowsWarps;

/// Floats of shared memory that finish_columns needs.
template <int kOutputs, int kRows>
inline constexpr int kFewRowsScratch = kFewRowsWarps* kOutputs* kRows;

/// Adds the sums of all lanes and warps, in a fixed order, and finishes the columns [first_col, first_col + kOutputs)
/// of the rows [first_row, first_row + rows) of c.
template <class T, int kOutputs, int kRows>
__device__ inline void finish_columns(const GemmArgs& args, const float (&sum)[kOutputs][kRows], int64_t first_row,
                                      int rows, int64_t first_col, float* scratch) {
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float total = warp_reduce(sum[o][r], Sum{});
      if (lane_index() == 0) scratch[(warp_index() * kOutputs + o) * kRows + r] = total;
    }
  }
  block_barrier();
  const int o = static_cast<int>(threadIdx.x) / kRows, r = static_cast<int>(threadIdx.x) % kRows;
  if (o >= kOutputs || r >= rows || first_col + o >= args.n) return;
  float total = scratch[o * kRows + r];
#pragma unroll
  for (int w = 1; w < kFewRowsWarps; ++w) total += scratch[(w * kOutputs + o) * kRows + r];
  if (args.c_dtype == DType::f32) {
    finish_element<T, float>(args, 0, first_row + r, first_col + o, total);
  } else {
    finish_element<T, T>(args, 0, first_row + r, first_col + o, total);
  }
}

}  // namespace ondol::ONDOL_CUDA_SPACE
