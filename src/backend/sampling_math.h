// What the rows `sample` of all backends must compute alike to the bit: scores, their order, fixed-point weights, the
// draw. Only operations whose IEEE result is unique, and nothing that a compiler may contract.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include <ondol/base/philox.h>

namespace ondol::sampling {

/// Of a token seen before (Keskar et al. 2019).
ONDOL_HOST_DEVICE inline float penalised(float logit, float penalty) {
  return logit < 0.0f ? logit * penalty : logit / penalty;
}

/// -0 and what is below the smallest normal number count as 0, which processors treat differently.
ONDOL_HOST_DEVICE inline float canonical(float score) { return fabsf(score) < FLT_MIN ? 0.0f : score; }

/// Unsigned numbers in the order of canonical scores.
ONDOL_HOST_DEVICE inline uint32_t order_key(uint32_t score_bits) {
  return score_bits & 0x80000000u ? ~score_bits : score_bits | 0x80000000u;
}

/// A likelihood in [0, 1] in units of 2^-40.
ONDOL_HOST_DEVICE inline uint64_t fixed_weight(float likelihood) {
  return static_cast<uint64_t>(likelihood * 1099511627776.0f);
}

/// Likelihoods below e^-80 are 0.
inline constexpr float kLowestLogLikelihood = -80.0f;

/// The mass that the kept tokens must reach.
ONDOL_HOST_DEVICE inline double wanted_mass(float top_p, uint64_t total) {
  return static_cast<double>(top_p) * static_cast<double>(total);
}

/// How many of `ties` tokens of weight `each` (> 0) are kept on top of `above` to reach `wanted`: the least that do.
ONDOL_HOST_DEVICE inline int64_t ties_to_keep(uint64_t above, uint64_t each, int64_t ties, double wanted) {
  int64_t low = 1, high = ties;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (static_cast<double>(above + each * static_cast<uint64_t>(middle)) >= wanted) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/// A number in [0, total), total < 2^63, from element `step` of the sequence of the seed.
ONDOL_HOST_DEVICE inline uint64_t draw(uint64_t seed, int64_t step, uint64_t total) {
  PhiloxKey key;
  key.seed = seed;
  const PhiloxBlock block = philox_block(key, static_cast<uint64_t>(step));
  // floor(fraction * total / 2^64) by halves; the fraction has 53 random bits.
  const uint64_t fraction = ((static_cast<uint64_t>(block.word[0]) << 21) ^ (block.word[1] >> 11)) << 11;
  const uint64_t high = fraction >> 32, low = fraction & 0xffffffffu;
  const uint64_t total_high = total >> 32, total_low = total & 0xffffffffu;
  const uint64_t middle = high * total_low + ((low * total_low) >> 32);
  const uint64_t other = low * total_high + (middle & 0xffffffffu);
  return high * total_high + (middle >> 32) + (other >> 32);
}

}  // namespace ondol::sampling
