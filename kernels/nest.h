// Strided index space of several tensors of one shape: neighbouring dimensions that are contiguous in all of them are
// merged on the host; a kernel turns the linear index into one offset for each tensor.
#pragma once

#include <array>

#include "launch.h"

namespace ondol::ONDOL_CUDA_SPACE {

template <int kTensors>
struct Nest {
  int ndim = 0;
  int64_t count = 1;
  int64_t shape[kMaxDims] = {};
  int64_t stride[kTensors][kMaxDims] = {};
};

template <int kTensors>
Nest<kTensors> make_nest(int ndim, const int64_t* shape, const std::array<const int64_t*, kTensors>& strides) {
  Nest<kTensors> nest;
  for (int d = 0; d < ndim; ++d) {
    nest.count *= shape[d];
    if (shape[d] == 1) continue;
    bool merges = nest.ndim > 0;
    for (int t = 0; t < kTensors && merges; ++t) {
      merges = nest.stride[t][nest.ndim - 1] == strides[t][d] * shape[d];
    }
    if (!merges) nest.shape[nest.ndim++] = 1;
    nest.shape[nest.ndim - 1] *= shape[d];
    for (int t = 0; t < kTensors; ++t) nest.stride[t][nest.ndim - 1] = strides[t][d];
  }
  if (nest.ndim == 0) {
    nest.ndim = 1;
    nest.shape[0] = 1;
    for (int t = 0; t < kTensors; ++t) nest.stride[t][0] = 1;
  }
  return nest;
}

template <int kTensors>
struct Offsets {
  int64_t of[kTensors];
};

template <class Index, int kTensors>
__device__ Offsets<kTensors> unravel(const Nest<kTensors>& nest, Index rest) {
  Offsets<kTensors> out{};
  for (int d = nest.ndim - 1; d >= 0; --d) {
    const Index size = static_cast<Index>(nest.shape[d]);
    const Index quotient = d == 0 ? 0 : rest / size;
    const int64_t index = static_cast<int64_t>(rest - quotient * size);
    for (int t = 0; t < kTensors; ++t) out.of[t] += index * nest.stride[t][d];
    rest = quotient;
  }
  return out;
}

/// 32-bit division, several times faster, wherever it is enough.
template <int kTensors>
__device__ Offsets<kTensors> offsets(const Nest<kTensors>& nest, int64_t index) {
  return nest.count <= 0xffffffff ? unravel(nest, static_cast<uint32_t>(index))
                                  : unravel(nest, static_cast<uint64_t>(index));
}

}  // namespace ondol::ONDOL_CUDA_SPACE
