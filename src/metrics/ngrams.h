// N-grams as numbers: equal n-grams of the texts of one NgramIndex have equal numbers.
//
//   NgramIndex index;
//   const Ngrams ours = index.add(hypothesis, 4), theirs = index.add(reference, 4);   // tokens as numbers
//   const NgramCounts counts = index.count(theirs[n]);
//   const int64_t matches = index.matches(ours[n], counts);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace ondol::metrics {

/// [n - 1]: the n-grams in the order of the text; empty where the text is shorter.
using Ngrams = std::vector<std::vector<uint32_t>>;
/// How often each n-gram occurs, by its number; those beyond the end do not.
using NgramCounts = std::vector<int32_t>;

class NgramIndex {
 public:
  Ngrams add(std::span<const uint32_t> tokens, int orders);
  NgramCounts count(std::span<const uint32_t> ngrams) const;
  /// N-grams that occur in `counts` as well, each at most as often as there.
  int64_t matches(std::span<const uint32_t> ngrams, NgramCounts counts) const;

 private:
  /// Keys: the number of all but the last token, and the last token.
  std::unordered_map<uint64_t, uint32_t> numbers_;
};

/// Words to numbers.
class WordIndex {
 public:
  std::vector<uint32_t> add(const std::vector<std::string>& words);

 private:
  std::unordered_map<std::string, uint32_t> numbers_;
};

}  // namespace ondol::metrics
