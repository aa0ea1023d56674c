// Copies of boxes of a tensor to shared memory by the copy engine of compute capability 9.0. Included as
// <device/tensor_copy.cuh>: the host emulation has its own version.
#pragma once

#include <cuda_runtime.h>

#include <device/mbarrier.cuh>

#include "tensor_map.h"

namespace ondol::ONDOL_CUDA_SPACE {

/// One thread starts the copy of the box whose first element has these coordinates (dimension 0 first; they may lie
/// outside the tensor). `shared` is aligned to 1024 bytes. The bytes of the whole box, zeros included, count for
/// `full`.
__device__ inline void copy_box_async(void* shared, const TensorMap& map, int c0, int c1, int c2, int c3,
                                      Mbarrier* full) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(&map), "r"(mbarrier_address(full)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

/// One thread fetches the map itself ahead of the first copy.
__device__ inline void prefetch_tensor_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// What this thread has stored into shared memory comes before what copies and products do after the next barrier.
__device__ inline void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace ondol::ONDOL_CUDA_SPACE
