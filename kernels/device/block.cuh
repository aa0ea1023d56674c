// Warps, barriers, shared memory and reductions. A block has a multiple of 32 threads along x; every reduction runs in
// one fixed order and gives its result to all threads.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) & 31; }
__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) >> 5; }
__device__ inline int warps_in_block() { return static_cast<int>(blockDim.x) >> 5; }
__device__ inline int64_t global_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline void block_barrier() { __syncthreads(); }
__device__ inline void warp_barrier() { __syncwarp(); }

/// The block's dynamic shared memory, handed out array by array; the launch must have asked for all of it.
class SharedMemory {
 public:
  __device__ SharedMemory() {
    extern __shared__ uint4 ondol_shared_memory[];
    next_ = reinterpret_cast<unsigned char*>(ondol_shared_memory);
  }
  /// The next `count` elements, aligned to 16 bytes.
  template <class T>
  __device__ T* take(int64_t count) {
    T* out = reinterpret_cast<T*>(next_);
    next_ += (static_cast<size_t>(count) * sizeof(T) + 15) / 16 * 16;
    return out;
  }

 private:
  unsigned char* next_;
};

/// What SharedMemory::take uses up.
template <class T>
constexpr size_t shared_bytes(int64_t count) {
  return (static_cast<size_t>(count) * sizeof(T) + 15) / 16 * 16;
}

template <class T>
__device__ inline T shuffle_xor(T value, int lane_mask) {
  return __shfl_xor_sync(kAllLanes, value, lane_mask);
}


/// The value that lane `source` brings.
template <class T>
__device__ inline T shuffle_from(T value, int source) {
  return __shfl_sync(kAllLanes, value, source);
}

/// One bit for each lane of the warp.
__device__ inline unsigned ballot(bool predicate) { return __ballot_sync(kAllLanes, predicate ? 1 : 0); }

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

/// The greater one; NaN wins over everything, as in the CPU rows.
struct Max {
  __device__ float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};

template <class T, class Combine>
__device__ inline T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) value = combine(value, shuffle_xor(value, offset));
  return value;
}

/// Elements of scratch that a block reduction needs: one for each warp.
inline constexpr int kReduceScratch = 32;

/// `scratch` is shared memory of kReduceScratch elements, free again when the next block reduction begins.
template <class T, class Combine>
__device__ inline T block_reduce(T value, T identity, Combine combine, T* scratch) {
  value = warp_reduce(value, combine);
  block_barrier();  // the scratch may still be read by an earlier reduction
  if (lane_index() == 0) scratch[warp_index()] = value;
  block_barrier();
  value = lane_index() < warps_in_block() ? scratch[lane_index()] : identity;
  return warp_reduce(value, combine);
}

template <class T>
__device__ inline T block_sum(T value, T* scratch) {
  return block_reduce(value, T{0}, Sum{}, scratch);
}

__device__ inline float block_max(float value, float* scratch) {
  return block_reduce(value, -INFINITY, Max{}, scratch);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
