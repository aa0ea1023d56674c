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

}  // namespace ondol::tokenization
