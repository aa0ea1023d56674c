// Generated Unicode data; unicode.cpp and unicode_normalization.cpp turn it into look-up tables.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ondol::tokenization {

/// (first code point << 5) | general category, a run reaches to the next entry.
extern const uint32_t kCategoryRuns[];
extern const size_t kNumCategoryRuns;

/// (first code point << 8) | canonical combining class; before the first run the class is 0.
extern const uint32_t kCombiningClassRuns[];
extern const size_t kNumCombiningClassRuns;

struct SingletonDecomposition {
  uint32_t code_point, to;
};
extern const SingletonDecomposition kSingletonDecompositions[];
extern const size_t kNumSingletonDecompositions;

/// The top bit of code_point says that the pair composes again (it is not a composition exclusion).
struct PairDecomposition {
  uint32_t code_point, first, second;
};
inline constexpr uint32_t kComposesBit = 0x80000000u;
extern const PairDecomposition kPairDecompositions[];
extern const size_t kNumPairDecompositions;

/// `count` code points from `first`, `stride` apart, are lower-cased by adding `delta`. U+0130, whose lower case is two
/// code points, is not among them.
struct LowercaseRun {
  uint32_t first;
  uint16_t count;
  uint16_t stride;
  int32_t delta;
};
extern const LowercaseRun kLowercaseRuns[];
extern const size_t kNumLowercaseRuns;

/// (first code point << 4) | major version of Unicode that assigned them: 9, 10 for later ones, 0 for 8 and before.
/// Only marks, punctuation and format characters are told apart; a run reaches to the next entry.
extern const uint32_t kLaterRuns[];
extern const size_t kNumLaterRuns;

/// `count` code points from `first` have the compatibility decompositions `to`, `to` + 1, …
struct CompatibilityRun {
  uint32_t first;
  uint16_t count;
  uint32_t to;
};
extern const CompatibilityRun kCompatibilityRuns[];
extern const size_t kNumCompatibilityRuns;

/// Longer ones: (length << 24) | code point, then the decomposition.
extern const uint32_t kCompatibilitySequences[];
extern const size_t kNumCompatibilityValues;

}  // namespace ondol::tokenization
