// Maximum and sum of exponentials of a row in one pass (Milakov & Gimelshein 2018, "Online normalizer calculation").
#pragma once

#include "device/block.cuh"
#include "device/vector.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

struct SoftmaxStatistics {
  float max;
  float sum;  // of exp(x - max)
  __device__ float log_sum_exp() const { return max + logf(sum); }
};

/// For the whole block; each thread takes every blockDim-th vector of kCount elements.
template <int kCount, class T>
__device__ inline SoftmaxStatistics softmax_statistics(const T* row, int64_t cols, float* scratch) {
  float max = -INFINITY, sum = 0.0f;
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < cols;
       c += static_cast<int64_t>(blockDim.x) * kCount) {
    const Floats<kCount> v = load_floats<kCount>(row + c);
    float greater = max;
#pragma unroll
    for (int i = 0; i < kCount; ++i) greater = Max{}(greater, v[i]);
    if (greater == -INFINITY) continue;  // exp(-inf - -inf) would be NaN
    sum *= expf(max - greater);
    max = greater;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += expf(v[i] - max);
  }
  const float block_wide = block_max(max, scratch);
  sum = block_sum(max == block_wide ? sum : sum * expf(max - block_wide), scratch);
  return {block_wide, sum};
}

}  // namespace ondol::ONDOL_CUDA_SPACE
