// Integer instructions on packed bytes.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace ondol::ONDOL_CUDA_SPACE {

/// sum + a0 b0 + a1 b1 + a2 b2 + a3 b3 over the signed bytes of two words.
__device__ inline int dot4(uint32_t a, uint32_t b, int sum) {
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
}

/// The 32 bits that begin `shift` (0 to 31) bits into the 64-bit value high:low.
__device__ inline uint32_t funnel_right(uint32_t low, uint32_t high, unsigned shift) {
  return __funnelshift_r(low, high, shift);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
