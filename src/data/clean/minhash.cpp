#include <ondol/data/minhash.h>

#include <algorithm>
#include <cmath>

#include <ondol/base/error.h>
#include <ondol/base/philox.h>

#include "data/clean/words.h"
#include "tokenizer/hashing.h"

namespace ondol {

MinHasher::MinHasher(const MinHashOptions& options)
    : ngram_(options.ngram), bands_(options.bands), rows_(options.rows) {
  constexpr int64_t kMaxEntries = 1 << 16;
  if (ngram_ < 1 || bands_ < 1 || rows_ < 1 || bands_ > kMaxEntries || rows_ > kMaxEntries / bands_) {
    throw UsageError(concat("minhash: n-grams of ", ngram_, " words, ", bands_, " bands of ", rows_,
                            " rows: numbers must be positive and bands times rows at most ", kMaxEntries));
  }
  const auto entries = static_cast<uint64_t>(bands_ * rows_);
  constexpr uint32_t kStream = 0x6d68;
  const PhiloxKey key{options.seed, kStream, 0};
  for (uint64_t i = 0; i < entries; ++i) {
    const PhiloxBlock block = philox_block(key, i);
    low_.push_back(block.word[0]);
    high_.push_back(block.word[1]);
    offset_.push_back(uint64_t{block.word[2]} << 32 | block.word[3]);
  }
}

bool MinHasher::signature(std::string_view text, std::vector<uint32_t>& signature) const {
  signature.clear();
  std::vector<uint64_t> words, ngrams;
  clean::word_hashes(text, words);
  clean::ngram_hashes(words, static_cast<size_t>(ngram_), ngrams);
  if (ngrams.empty()) return false;
  const size_t entries = low_.size();
  signature.assign(entries, 0xffffffffu);
  const uint32_t* low = low_.data();
  const uint32_t* high = high_.data();
  const uint64_t* offset = offset_.data();
  uint32_t* least = signature.data();
  for (const uint64_t ngram : ngrams) {
    const auto x = static_cast<uint32_t>(ngram >> 32);
    // The upper half of a x + b: products of 32-bit halves alone, which every vector unit has.
    for (size_t i = 0; i < entries; ++i) {
      const uint64_t lower = uint64_t{low[i]} * x + offset[i];
      const uint32_t value = static_cast<uint32_t>(lower >> 32) + high[i] * x;
      least[i] = std::min(least[i], value);
    }
  }
  return true;
}

void MinHasher::band_hashes(std::span<const uint32_t> signature, std::vector<uint64_t>& hashes) const {
  hashes.clear();
  for (int64_t band = 0; band < bands_; ++band) {
    const auto rows = signature.subspan(static_cast<size_t>(band * rows_), static_cast<size_t>(rows_));
    uint64_t hash = tokenization::hash_words(static_cast<uint64_t>(band), rows.size());
    for (const uint32_t row : rows) hash = tokenization::hash_words(hash, row);
    hashes.push_back(hash);
  }
}

double estimate_jaccard(std::span<const uint32_t> a, std::span<const uint32_t> b) {
  ONDOL_CHECK(a.size() == b.size(), "minhash: signatures of ", a.size(), " and ", b.size(), " entries");
  if (a.empty()) return 0;
  size_t equal = 0;
  for (size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i];
  return static_cast<double>(equal) / static_cast<double>(a.size());
}

double candidate_probability(double jaccard, int64_t bands, int64_t rows) {
  return 1 - std::pow(1 - std::pow(jaccard, static_cast<double>(rows)), static_cast<double>(bands));
}

}  // namespace ondol
