// kernels/device/ptx.cuh for the host: the same functions, with the fragment layouts of the PTX ISA.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include <cuda_runtime.h>

#include <ondol/base/dtype.h>

#include "warp_matrix.h"

namespace ondol::ONDOL_CUDA_SPACE {

inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulation::mma_m16n8k16(c, a, b0, b1);
}
inline void load_matrices(uint32_t (&out)[4], const void* row) { emulation::load_matrices(out, row, false); }
inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) { emulation::load_matrices(out, row, true); }

inline void copy_async_16(void* shared, const void* global, bool present) {
  emulation::copy_async(shared, global, 16, present);
}
inline void copy_async_4(void* shared, const void* global, bool present) {
  emulation::copy_async(shared, global, 4, present);
}
inline void commit_copies() { emulation::commit_copies(); }
template <int kPending>
void wait_copies() {
  emulation::wait_copies(kPending);
}

inline uint32_t pack_bf16(float low, float high) {
  return static_cast<uint32_t>(bfloat16(low).bits) | static_cast<uint32_t>(bfloat16(high).bits) << 16;
}
inline float exp2_fast(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
