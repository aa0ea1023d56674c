// How host code starts kernels: error check, launch, grid sizes. Kernels are started by launch() alone (never <<< >>>),
// so that the same sources also compile for the host.
//
//   launch("glu", glu_kernel<T, 8>, blocks_for(count, kThreads), kThreads, 0, stream, args);
#pragma once

#include <algorithm>
#include <cstdint>

#include <cuda_runtime.h>

#include <ondol/base/error.h>

#include "backend/kernel_table.h"

/// Throws ondol::Error `[op] CUDA: reason (call)` when a CUDA runtime call fails.
#define CUDA_CHECK(op, call)                                                                              \
  do {                                                                                                    \
    const cudaError_t cuda_check_status = (call);                                                         \
    if (cuda_check_status != cudaSuccess) {                                                               \
      ::ondol::throw_error("[", op, "] CUDA: ", cudaGetErrorString(cuda_check_status), " (", #call, ")"); \
    }                                                                                                     \
  } while (false)

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr int kWarpSize = 32;
/// Shared memory that a block may use without asking for more.
inline constexpr size_t kDefaultSharedBytes = 48 << 10;
/// Shared memory that a kernel for all GPUs may ask for: what compute capability 8.6 gives to one block.
inline constexpr size_t kMaxSharedBytes = 99 << 10;

template <class... Parameters, class... Args>
void launch(const char* op, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream,
            const Args&... args) {
  if (shared_bytes > kDefaultSharedBytes) {
    CUDA_CHECK(
        op, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  CUDA_CHECK(op, cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...));
}

/// Blocks of `threads` that give every one of `count` items its own thread. Throws when that passes what a grid holds.
inline unsigned blocks_for(const char* op, int64_t count, int threads) {
  const int64_t blocks = (count + threads - 1) / threads;
  ONDOL_CHECK(blocks <= 0x7fffffff, "[", op, "] too many elements for one launch: ", count);
  return static_cast<unsigned>(blocks);
}

/// Threads for a block that works on one row: a multiple of the warp, at most `limit`.
inline int row_threads(int64_t vectors, int limit) {
  const int64_t wanted = (vectors + kWarpSize - 1) / kWarpSize * kWarpSize;
  return static_cast<int>(std::clamp<int64_t>(wanted, kWarpSize, limit));
}

/// True when every pointer is aligned for vectors of `bytes` (null pointers are).
template <class... Pointers>
bool aligned(size_t bytes, Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % bytes == 0) && ...);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
