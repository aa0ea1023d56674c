// Reductions over rows: a block has kColumnThreads lanes along the columns, each with kCount neighbours, and
// kColumnSlices slices of rows, which are combined in order at the end.
#pragma once

#include "device/block.cuh"
#include "device/vector.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr int kColumnThreads = 32;
inline constexpr int kColumnSlices = 8;
inline constexpr int kColumnBlock = kColumnThreads * kColumnSlices;

/// The column lane and row slice of this thread.
__device__ inline int column_lane() { return static_cast<int>(threadIdx.x) % kColumnThreads; }
__device__ inline int column_slice() { return static_cast<int>(threadIdx.x) / kColumnThreads; }

/// Shared memory of combine_slices, in floats.
template <int kCount>
inline constexpr int kSliceScratch = kColumnBlock* kCount;

/// Combines the values of all slices; finish(column of the block, result) runs once for each column of the block.
template <int kCount, class Combine, class Finish>
__device__ inline void combine_slices(const Floats<kCount>& value, float* scratch, Combine combine, Finish finish) {
  constexpr int kColumns = kColumnThreads * kCount;
  float* own = scratch + column_slice() * kColumns + column_lane() * kCount;
#pragma unroll
  for (int i = 0; i < kCount; ++i) own[i] = value[i];
  block_barrier();
  for (int c = static_cast<int>(threadIdx.x); c < kColumns; c += kColumnBlock) {
    float result = scratch[c];
#pragma unroll
    for (int s = 1; s < kColumnSlices; ++s) result = combine(result, scratch[s * kColumns + c]);
    finish(c, result);
  }
}

}  // namespace ondol::ONDOL_CUDA_SPACE
