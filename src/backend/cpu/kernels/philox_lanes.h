// Philox4x32-10 for many blocks at once: plain loops over fixed-size arrays, which the compiler turns into vectors.
// Gives the words of philox_block() in include/ondol/base/philox.h.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd.h"
#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int kPhiloxBlocks = kLanes;
inline constexpr int kPhiloxWords = 4 * kPhiloxBlocks;

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
  uint32_t a[kPhiloxBlocks], b[kPhiloxBlocks], c[kPhiloxBlocks], d[kPhiloxBlocks];
  for (int i = 0; i < kPhiloxBlocks; ++i) {
    const uint64_t block = first_block + static_cast<uint64_t>(i);
    a[i] = static_cast<uint32_t>(block);
    b[i] = static_cast<uint32_t>(block >> 32);
    c[i] = key.step;
    d[i] = key.stream;
  }
  uint32_t key0 = key.key0, key1 = key.key1;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kPhiloxBlocks; ++i) {
      const uint64_t product0 = uint64_t{0xD2511F53u} * a[i];
      const uint64_t product1 = uint64_t{0xCD9E8D57u} * c[i];
      a[i] = static_cast<uint32_t>(product1 >> 32) ^ b[i] ^ key0;
      b[i] = static_cast<uint32_t>(product1);
      c[i] = static_cast<uint32_t>(product0 >> 32) ^ d[i] ^ key1;
      d[i] = static_cast<uint32_t>(product0);
    }
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int i = 0; i < kPhiloxBlocks; ++i) {
    words[4 * i] = a[i];
    words[4 * i + 1] = b[i];
    words[4 * i + 2] = c[i];
    words[4 * i + 3] = d[i];
  }
}

/// uniform(element) >= p exactly when the word's leading 24 bits reach this.
inline uint32_t dropout_threshold(float p) {
  const double scaled = static_cast<double>(p) * 16777216.0;
  const uint32_t floor = static_cast<uint32_t>(scaled);
  return static_cast<double>(floor) < scaled ? floor + 1 : floor;
}

}  // namespace ondol::cpu::ONDOL_ISA
