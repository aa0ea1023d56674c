// kernels/device/tensor_copy.cuh for the host. A TensorMap holds what encode_tensor_map of this directory put there.
#pragma once

#include <cstring>

#include <cuda_runtime.h>

#include <device/mbarrier.cuh>

#include "tensor_map.h"

namespace ondol::ONDOL_CUDA_SPACE {

inline void copy_box_async(void* shared, const TensorMap& map, int c0, int c1, int c2, int c3, Mbarrier* full) {
  emulation::BoxedTensor tensor;
  static_assert(sizeof(tensor) <= sizeof(map));
  std::memcpy(static_cast<void*>(&tensor), map.words, sizeof(tensor));
  emulation::copy_box(shared, tensor, {c0, c1, c2, c3}, &full->state);
}
inline void prefetch_tensor_map(const TensorMap&) {}
inline void fence_async_proxy() { emulation::fence_async_proxy(); }

}  // namespace ondol::ONDOL_CUDA_SPACE
