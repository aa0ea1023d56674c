// MinHash: how similar two texts are, from a few hundred bytes of each.
//
//   const MinHasher hasher({.ngram = 5, .bands = 14, .rows = 8});
//   std::vector<uint32_t> a, b;
//   hasher.signature(first, a);
//   hasher.signature(second, b);
//   estimate_jaccard(a, b);                     // share of equal entries: an unbiased estimate of the Jaccard index
//   candidate_probability(0.8, 14, 8);          // 0.92: how likely some band of 8 entries agrees
//
// A text is the set of its runs of `ngram` words (words: lower case, without punctuation; a character each in scripts
// that write no spaces); of a shorter text its one run. Entry i of a signature is the least value of hash function i
// over the set, and the chance that two sets have the same least value is their Jaccard index (Broder 1997). Signatures
// are cut into `bands` of `rows` entries; texts that agree in a whole band are candidates (Leskovec, Rajaraman, Ullman,
// Mining of Massive Datasets, section 3.4). The default of 14 × 8 over 5-grams is that of FineWeb.
//
// The hash functions are h(x) = ((a x + b) mod 2^64) / 2^32 with 64-bit a and b drawn by Philox, over 32-bit hashes x
// of runs: strongly universal (Dietzfelbinger 1996), as random lines modulo a prime are, and without a division.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ondol {

struct MinHashOptions {
  int64_t ngram = 5;
  int64_t bands = 14;
  int64_t rows = 8;
  uint64_t seed = 1;
};

class MinHasher {
 public:
  /// Throws UsageError when a number is not positive or the signature would have more than 2^16 entries.
  explicit MinHasher(const MinHashOptions& options);

  int64_t size() const { return static_cast<int64_t>(high_.size()); }
  /// Writes size() entries. False, with an empty signature, for a text without a word.
  bool signature(std::string_view text, std::vector<uint32_t>& signature) const;
  /// One 64-bit hash for each band of a signature; bands never share one.
  void band_hashes(std::span<const uint32_t> signature, std::vector<uint64_t>& hashes) const;

 private:
  int64_t ngram_, bands_, rows_;
  std::vector<uint32_t> low_, high_;  // halves of a
  std::vector<uint64_t> offset_;      // b
};

/// The share of equal entries. Its standard deviation is sqrt(J (1 - J) / entries).
double estimate_jaccard(std::span<const uint32_t> a, std::span<const uint32_t> b);

/// 1 - (1 - s^rows)^bands.
double candidate_probability(double jaccard, int64_t bands, int64_t rows);

}  // namespace ondol
