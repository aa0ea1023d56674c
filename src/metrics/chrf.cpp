#include <ondol/base/error.h>
#include <ondol/metrics/translation.h>

#include "metrics/ngrams.h"
#include "metrics/text.h"

namespace ondol::metrics {

namespace {

/// N-grams of one order: of the hypothesis, of the reference, of both.
struct OrderStatistics {
  int64_t ours = 0, theirs = 0, matches = 0;
};
using Statistics = std::vector<OrderStatistics>;

/// F of the mean precision and the mean recall over the orders that both sides have.
double f_score(const Statistics& statistics, double beta) {
  double precision = 0.0, recall = 0.0;
  int orders = 0;
  for (const OrderStatistics& order : statistics) {
    if (order.ours == 0 || order.theirs == 0) continue;
    precision += static_cast<double>(order.matches) / static_cast<double>(order.ours);
    recall += static_cast<double>(order.matches) / static_cast<double>(order.theirs);
    ++orders;
  }
  if (precision + recall == 0.0) return 0.0;
  precision /= orders;
  recall /= orders;
  const double factor = beta * beta;
  return 100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall);
}

/// One sign of punctuation at the end of a word, or else at its beginning, is a word of its own.
std::vector<std::string> words_of(const std::vector<uint32_t>& text) {
  std::vector<std::string> words;
  for (const std::vector<uint32_t>& word : split(text)) {
    if (word.size() > 1 && is_ascii_punctuation(word.back())) {
      words.push_back(to_utf8({word.begin(), word.end() - 1}));
      words.push_back(to_utf8({word.back()}));
    } else if (word.size() > 1 && is_ascii_punctuation(word.front())) {
      words.push_back(to_utf8({word.front()}));
      words.push_back(to_utf8({word.begin() + 1, word.end()}));
    } else {
      words.push_back(to_utf8(word));
    }
  }
  return words;
}

/// The n-grams of a segment's hypothesis and references.
class SegmentNgrams {
 public:
  explicit SegmentNgrams(const ChrfOptions& options) : options_(options) {}

  struct Text {
    Ngrams characters, words;
  };

  Text add(const std::string& text) {
    std::vector<uint32_t> all = code_points(text);
    if (options_.lowercase) all = lowercase(all);
    std::vector<uint32_t> visible;
    for (const uint32_t c : all) {
      if (!is_space(c)) visible.push_back(c);
    }
    Text result{characters_.add(visible, options_.char_order), {}};
    if (options_.word_order > 0) result.words = words_.add(word_numbers_.add(words_of(all)), options_.word_order);
    return result;
  }

  Statistics compare(const Text& ours, const Text& theirs) const {
    Statistics statistics;
    compare(characters_, ours.characters, theirs.characters, statistics);
    compare(words_, ours.words, theirs.words, statistics);
    return statistics;
  }

 private:
  static void compare(const NgramIndex& index, const Ngrams& ours, const Ngrams& theirs, Statistics& statistics) {
    for (size_t n = 0; n < ours.size(); ++n) {
      // Where the reference has no n-gram, those of the hypothesis do not count either.
      const size_t counted = theirs[n].empty() ? 0 : ours[n].size();
      statistics.push_back({static_cast<int64_t>(counted), static_cast<int64_t>(theirs[n].size()),
                            index.matches(ours[n], index.count(theirs[n]))});
    }
  }

  const ChrfOptions& options_;
  NgramIndex characters_, words_;
  WordIndex word_numbers_;
};

}  // namespace

double chrf(std::span<const std::string> hypotheses, std::span<const std::vector<std::string>> references,
            const ChrfOptions& options) {
  ONDOL_CHECK(hypotheses.size() == references.size(), "chrF of ", hypotheses.size(), " hypotheses and ",
              references.size(), " references");
  ONDOL_CHECK(options.char_order >= 1 && options.word_order >= 0, "chrF needs n-grams of characters");
  Statistics sum(static_cast<size_t>(options.char_order + options.word_order));
  for (size_t i = 0; i < hypotheses.size(); ++i) {
    ONDOL_CHECK(!references[i].empty(), "chrF: hypothesis ", i, " has no reference");
    SegmentNgrams ngrams(options);
    const SegmentNgrams::Text ours = ngrams.add(hypotheses[i]);
    Statistics best;
    double best_score = -1.0;
    for (const std::string& reference : references[i]) {
      Statistics statistics = ngrams.compare(ours, ngrams.add(reference));
      const double score = f_score(statistics, options.beta);
      if (score <= best_score) continue;
      best_score = score;
      best = std::move(statistics);
    }
    for (size_t n = 0; n < sum.size(); ++n) {
      sum[n].ours += best[n].ours;
      sum[n].theirs += best[n].theirs;
      sum[n].matches += best[n].matches;
    }
  }
  return f_score(sum, options.beta);
}

}  // namespace ondol::metrics
