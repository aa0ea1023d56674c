// kernels/device/wgmma.cuh for the host.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "hopper.h"

namespace ondol::ONDOL_CUDA_SPACE {

inline uint32_t shared_address(const void* pointer) { return emulation::shared_address(pointer); }

template <bool kTransposedB, int kBlocks>
void wgmma(float (&d)[kBlocks][4], uint64_t a, uint64_t b, bool accumulate) {
  emulation::start_product({&d[0][0], kBlocks, nullptr, a, b, accumulate, kTransposedB});
}
template <bool kTransposedB, int kBlocks>
void wgmma(float (&d)[kBlocks][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  emulation::start_product({&d[0][0], kBlocks, a, 0, b, accumulate, kTransposedB});
}

inline void wgmma_fence() { emulation::fence_products(); }
inline void wgmma_commit() { emulation::commit_products(); }
template <int kPending>
void wgmma_wait() {
  emulation::wait_products(kPending);
}

template <int kBlocks>
void pin_registers(float (&)[kBlocks][4]) {}
template <int kBlocks>
void pin_registers(uint32_t (&)[kBlocks][4]) {}
inline void pin_registers(int&) {}

}  // namespace ondol::ONDOL_CUDA_SPACE
