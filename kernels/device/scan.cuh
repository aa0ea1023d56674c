// Sums over what comes before: over the lanes of a warp, over the warps of a block.
#pragma once

#include "device/block.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// The sum of `value` over the lanes before this one; `total` over all.
template <class T>
__device__ inline T sum_of_lanes_before(T value, T& total) {
  T inclusive = value;
#pragma unroll
  for (int offset = 1; offset < 32; offset <<= 1) {
    const T other = __shfl_up_sync(kAllLanes, inclusive, static_cast<unsigned>(offset));
    if (lane_index() >= offset) inclusive += other;
  }
  total = __shfl_sync(kAllLanes, inclusive, 31);
  return inclusive - value;
}

/// The sum of `value` (the same in all lanes of a warp) over the warps before this one. `scratch` is shared memory of
/// kReduceScratch elements, free again when the next reduction of the block begins.
template <class T>
__device__ inline T sum_of_warps_before(T value, T* scratch) {
  block_barrier();
  if (lane_index() == 0) scratch[warp_index()] = value;
  block_barrier();
  T sum{};
  for (int w = 0; w < warp_index(); ++w) sum += scratch[w];
  return sum;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
