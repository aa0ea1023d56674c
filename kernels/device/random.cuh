// Numbers of the counter-based generator (base/philox.h) in kernels.
#pragma once

#include <ondol/base/philox.h>

#include <cuda_runtime.h>

namespace ondol::ONDOL_CUDA_SPACE {

/// philox_uniform for any element; indexing the block would move it from registers to memory.
__device__ inline float uniform_of(PhiloxKey key, uint64_t element) {
  const PhiloxBlock block = philox_block(key, element >> 2);
  const uint32_t low = (element & 1) == 0 ? block.word[0] : block.word[1];
  const uint32_t high = (element & 1) == 0 ? block.word[2] : block.word[3];
  return word_to_uniform((element & 2) == 0 ? low : high);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
