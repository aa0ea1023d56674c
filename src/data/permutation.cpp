#include <ondol/data/permutation.h>

#include <algorithm>
#include <bit>

#include <ondol/base/error.h>

namespace ondol {

namespace {
constexpr int kRounds = 8;
// Networks over very few bits reach few of all permutations, so small n walk inside a larger domain.
constexpr int kMinBits = 8;
}  // namespace

Permutation::Permutation(int64_t n, PhiloxKey key) : n_(n), key_(key) {
  ONDOL_CHECK(n >= 0, "[permutation] size must not be negative, got ", n);
  const int bits =
      std::max(kMinBits, static_cast<int>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(n, 1) - 1))));
  left_bits_ = bits / 2;
  right_bits_ = bits - left_bits_;
}

uint64_t Permutation::walk(uint64_t value) const {
  const uint64_t left_mask = (uint64_t{1} << left_bits_) - 1;
  const uint64_t right_mask = (uint64_t{1} << right_bits_) - 1;
  uint64_t left = value >> right_bits_;
  uint64_t right = value & right_mask;
  for (int round = 0; round < kRounds; round += 2) {
    left ^= philox_block(key_, right << 8 | static_cast<uint64_t>(round)).word[0] & left_mask;
    right ^= philox_block(key_, left << 8 | static_cast<uint64_t>(round + 1)).word[0] & right_mask;
  }
  return left << right_bits_ | right;
}

int64_t Permutation::operator()(int64_t i) const {
  ONDOL_CHECK(i >= 0 && i < n_, "[permutation] index ", i, " is outside [0, ", n_, ")");
  uint64_t value = static_cast<uint64_t>(i);
  do {
    value = walk(value);
  } while (value >= static_cast<uint64_t>(n_));
  return static_cast<int64_t>(value);
}

}  // namespace ondol
