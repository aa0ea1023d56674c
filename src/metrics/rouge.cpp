#include <algorithm>

#include <ondol/base/error.h>
#include <ondol/metrics/summarization.h>

#include "metrics/ngrams.h"
#include "metrics/text.h"

namespace ondol::metrics {

namespace {

std::vector<std::string> tokens_of(const std::string& text, const RougeOptions& options) {
  std::vector<std::string> tokens;
  std::vector<uint32_t> token;
  const auto finish = [&] {
    if (!token.empty()) tokens.push_back(to_utf8(token));
    token.clear();
  };
  for (const uint32_t c : lowercase(code_points(text))) {
    const bool original = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (options.all_scripts ? is_word(c) : original) {
      token.push_back(c);
    } else {
      finish();
    }
  }
  finish();
  return tokens;
}

int64_t longest_common_subsequence(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  std::vector<int64_t> row(b.size() + 1, 0);  // for the tokens of a so far: with the first j tokens of b
  for (const uint32_t token : a) {
    int64_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t above = row[j];
      row[j] = token == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

RougeScore score_of(int64_t matches, size_t predicted, size_t expected) {
  RougeScore score;
  score.precision = static_cast<double>(matches) / static_cast<double>(std::max<size_t>(predicted, 1));
  score.recall = static_cast<double>(matches) / static_cast<double>(std::max<size_t>(expected, 1));
  const double sum = score.precision + score.recall;
  score.f1 = sum > 0.0 ? 2.0 * score.precision * score.recall / sum : 0.0;
  return score;
}

void keep_better(RougeScore& best, const RougeScore& score, bool first) {
  if (first || score.f1 > best.f1) best = score;
}

void add(RougeScore& sum, const RougeScore& score, double weight) {
  sum.precision += weight * score.precision;
  sum.recall += weight * score.recall;
  sum.f1 += weight * score.f1;
}

}  // namespace

RougeScores rouge(const std::string& summary, const std::vector<std::string>& references, const RougeOptions& options) {
  ONDOL_CHECK(!references.empty(), "ROUGE: a summary has no reference");
  WordIndex words;
  NgramIndex index;
  const std::vector<uint32_t> ours = words.add(tokens_of(summary, options));
  const Ngrams our_ngrams = index.add(ours, 2);
  RougeScores best;
  for (const std::string& reference : references) {
    const std::vector<uint32_t> theirs = words.add(tokens_of(reference, options));
    const Ngrams their_ngrams = index.add(theirs, 2);
    const bool first = &reference == &references.front();
    for (const size_t n : {size_t{0}, size_t{1}}) {
      const int64_t matches = index.matches(our_ngrams[n], index.count(their_ngrams[n]));
      keep_better(n == 0 ? best.rouge1 : best.rouge2, score_of(matches, our_ngrams[n].size(), their_ngrams[n].size()),
                  first);
    }
    keep_better(best.rouge_l, score_of(longest_common_subsequence(ours, theirs), ours.size(), theirs.size()), first);
  }
  return best;
}

RougeScores rouge(std::span<const std::string> summaries, std::span<const std::vector<std::string>> references,
                  const RougeOptions& options) {
  ONDOL_CHECK(summaries.size() == references.size() && !summaries.empty(), "ROUGE of ", summaries.size(),
              " summaries and ", references.size(), " references");
  RougeScores mean;
  const double weight = 1.0 / static_cast<double>(summaries.size());
  for (size_t i = 0; i < summaries.size(); ++i) {
    const RougeScores scores = rouge(summaries[i], references[i], options);
    add(mean.rouge1, scores.rouge1, weight);
    add(mean.rouge2, scores.rouge2, weight);
    add(mean.rouge_l, scores.rouge_l, weight);
  }
  return mean;
}

}  // namespace ondol::metrics
