// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based generator.
// A number depends on (seed, stream, step, element) alone, so that any thread count, rank count or order of evaluation
// gives the same values. Usable in device code as it stands.
//
//   const PhiloxKey key{seed, stream, step};
//   float u = philox_uniform(key, element);       // [0, 1)
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define ONDOL_HOST_DEVICE __host__ __device__
#else
#define ONDOL_HOST_DEVICE
#endif

namespace ondol {

struct PhiloxBlock {
  uint32_t word[4];
};

/// What distinguishes one sequence from another. `step` counts optimizer steps (or epochs, for data order).
struct PhiloxKey {
  uint64_t seed = 0;
  uint32_t stream = 0;
  uint32_t step = 0;
};

/// The raw generator: ten rounds over a 128-bit counter with a 64-bit key.
ONDOL_HOST_DEVICE inline PhiloxBlock philox4x32(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(0xD2511F53u) * counter.word[0];
    const uint64_t product1 = static_cast<uint64_t>(0xCD9E8D57u) * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

/// Four random words for the block of elements 4*block .. 4*block+3.
ONDOL_HOST_DEVICE inline PhiloxBlock philox_block(PhiloxKey key, uint64_t block) {
  const PhiloxBlock counter{
      {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), key.step, key.stream}};
  return philox4x32(counter, static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

/// One random word for one element.
ONDOL_HOST_DEVICE inline uint32_t philox_word(PhiloxKey key, uint64_t element) {
  return philox_block(key, element >> 2).word[element & 3];
}

/// The 24 leading bits of a word as a float in [0, 1).
ONDOL_HOST_DEVICE inline float word_to_uniform(uint32_t word) {
  return static_cast<float>(word >> 8) * (1.0f / 16777216.0f);
}

ONDOL_HOST_DEVICE inline float philox_uniform(PhiloxKey key, uint64_t element) {
  return word_to_uniform(philox_word(key, element));
}

/// A standard normal deviate for one element (Box-Muller over its own two words, computed in double).
inline double philox_normal(PhiloxKey key, uint64_t element) {
  const PhiloxBlock block = philox_block(key, element);
  const double u1 = (static_cast<double>(block.word[0]) + 1.0) / 4294967296.0;
  const double u2 = static_cast<double>(block.word[1]) / 4294967296.0;
  return std::sqrt(-2.0 * std::log(u1)) * std::cos(6.283185307179586476925 * u2);
}

}  // namespace ondol
