// Tensors that compute capability 9.0 copies box by box (cp.async.bulk.tensor; device/tensor_copy.cuh).
//
//   TensorMap map;
//   if (!encode_tensor_map(map, {data, {head_dim, heads, length, batch}, {stride_h, stride_t, stride_b}, {64, 1, 128,
//   1}}))
//     ...                                  // another form of the kernel
//   launch(op, kernel, ..., map);          // __global__ void kernel(const __grid_constant__ TensorMap map)
#pragma once

#include <array>
#include <cstdint>

#include "backend/kernel_table.h"

namespace ondol::ONDOL_CUDA_SPACE {

/// What the instruction reads; the driver's format.
struct alignas(128) TensorMap {
  uint64_t words[16];
};

/// A tensor of 16-bit elements. Dimension 0 is contiguous and its boxes have 64 elements: a box arrives in shared
/// memory as rows of 128 bytes, dimension 1 varying fastest, the 16-byte unit u of row r at place u ^ (r % 8) (128-byte
/// swizzle). Elements outside the tensor are zeros.
struct BoxedTensor {
  const void* data;
  std::array<int64_t, 4> sizes;
  std::array<int64_t, 3> strides;  // of dimensions 1 ... 3, in elements
  std::array<int, 4> box;
};

/// False where the driver is too old or refuses the tensor: data and strides must be aligned to 16 bytes, sizes at
/// least 1. (runtime/tensor_map.cu)
bool encode_tensor_map(TensorMap& map, const BoxedTensor& tensor);

}  // namespace ondol::ONDOL_CUDA_SPACE
