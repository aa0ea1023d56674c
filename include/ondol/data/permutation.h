// A pseudo-random permutation of [0, n), one index at a time, without a list.
//
//   const Permutation order(num_samples, {.seed = 1, .step = epoch});
//   int64_t sample = order(i);         // O(1) time and memory, the same on every machine
//
// An alternating Feistel network (Luby and Rackoff, 1988) with Philox as round function permutes the next power of two;
// values outside [0, n) are sent through it again until they fall inside (cycle walking, Black and Rogaway, 2002).
#pragma once

#include <cstdint>

#include <ondol/base/philox.h>

namespace ondol {

class Permutation {
 public:
  /// Throws Error when n < 0. The key says which permutation: equal keys give equal orders.
  Permutation(int64_t n, PhiloxKey key);
  /// Where index i of [0, n) goes.
  int64_t operator()(int64_t i) const;
  int64_t size() const { return n_; }

 private:
  uint64_t walk(uint64_t value) const;

  int64_t n_;
  PhiloxKey key_;
  int left_bits_;
  int right_bits_;
};

}  // namespace ondol
