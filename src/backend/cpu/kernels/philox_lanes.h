// Philox4x32-10 for many blocks at once. Gives the words of philox_block() in include/ondol/base/philox.h. Each word
// lies in the lower half of a 64-bit lane, where one multiplication gives both halves of a product; what gathers in the
// upper halves is never read. Groups of blocks are interleaved, because the rounds of one depend on each other.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd.h"
#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int kPhiloxGroups = kLanes >= 16 ? 4 : 2;  // as many as the registers hold
inline constexpr int kPhiloxWords = 4 * kPhiloxGroups * kCounters;

/// The key words and the fixed half of the counter.
struct PhiloxLanesKey {
  uint32_t key0, key1, step, stream;

  explicit PhiloxLanesKey(const RngArgs& rng)
      : key0(static_cast<uint32_t>(rng.seed)),
        key1(static_cast<uint32_t>(rng.seed >> 32)),
        step(rng.step == nullptr ? 0u : static_cast<uint32_t>(*rng.step)),
        stream(rng.stream) {}
};

/// words[e] = the random word of element 4 * first_block + e, for kPhiloxWords elements.
inline void philox_words(const PhiloxLanesKey& key, uint64_t first_block, uint32_t* words) {
  const Counters multiplier0 = splat_counter(0xD2511F53u), multiplier1 = splat_counter(0xCD9E8D57u);
  Counters a[kPhiloxGroups], b[kPhiloxGroups], c[kPhiloxGroups], d[kPhiloxGroups];
  for (int g = 0; g < kPhiloxGroups; ++g) {
    a[g] = count_from(first_block + static_cast<uint64_t>(g * kCounters));
    b[g] = upper_word(a[g]);
    c[g] = splat_counter(key.step);
    d[g] = splat_counter(key.stream);
  }
  uint32_t key0 = key.key0, key1 = key.key1;
  for (int round = 0; round < 10; ++round) {
    const Counters round_key0 = splat_counter(key0), round_key1 = splat_counter(key1);
    for (int g = 0; g < kPhiloxGroups; ++g) {
      const Counters product0 = multiply_low(a[g], multiplier0), product1 = multiply_low(c[g], multiplier1);
      a[g] = upper_word(product1) ^ b[g] ^ round_key0;
      b[g] = product1;
      c[g] = upper_word(product0) ^ d[g] ^ round_key1;
      d[g] = product0;
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int g = 0; g < kPhiloxGroups; ++g) store_blocks(words + 4 * kCounters * g, a[g], b[g], c[g], d[g]);
}

/// uniform(element) >= p exactly when the word's leading 24 bits, as a number, reach this.
inline float dropout_threshold(float p) { return p * 16777216.0f; }

}  // namespace ondol::cpu::ONDOL_ISA
