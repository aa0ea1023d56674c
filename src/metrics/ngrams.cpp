#include "metrics/ngrams.h"

namespace ondol::metrics {

Ngrams NgramIndex::add(std::span<const uint32_t> tokens, int orders) {
  constexpr uint64_t kNothing = 0xffffffffu;  // stands before the only token of a 1-gram
  Ngrams ngrams(static_cast<size_t>(orders));
  for (size_t n = 1; n <= ngrams.size() && n <= tokens.size(); ++n) {
    std::vector<uint32_t>& of_order = ngrams[n - 1];
    of_order.reserve(tokens.size() - n + 1);
    for (size_t i = 0; i + n <= tokens.size(); ++i) {
      const uint64_t front = n == 1 ? kNothing : ngrams[n - 2][i];
      const auto next = static_cast<uint32_t>(numbers_.size());
      of_order.push_back(numbers_.try_emplace(front << 32 | tokens[i + n - 1], next).first->second);
    }
  }
  return ngrams;
}

NgramCounts NgramIndex::count(std::span<const uint32_t> ngrams) const {
  NgramCounts counts(numbers_.size(), 0);
  for (const uint32_t ngram : ngrams) ++counts[ngram];
  return counts;
}

int64_t NgramIndex::matches(std::span<const uint32_t> ngrams, NgramCounts counts) const {
  int64_t found = 0;
  for (const uint32_t ngram : ngrams) {
    if (ngram < counts.size() && counts[ngram]-- > 0) ++found;
  }
  return found;
}

std::vector<uint32_t> WordIndex::add(const std::vector<std::string>& words) {
  std::vector<uint32_t> numbers;
  numbers.reserve(words.size());
  for (const std::string& word : words) {
    numbers.push_back(numbers_.try_emplace(word, static_cast<uint32_t>(numbers_.size())).first->second);
  }
  return numbers;
}

}  // namespace ondol::metrics
