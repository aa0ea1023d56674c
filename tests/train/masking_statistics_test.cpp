// What masked language modelling does to more than a million tokens, against the papers' numbers. Every bound is 4.5
// standard deviations of the count in question: exceeded by chance in 7 of a million.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/sample_draws.h"
#include "train/corruption.h"

namespace ondol {
namespace {

using testing::share_bound;

/// Rows of text alone, without special tokens, of all regular ids.
Batch text_samples(const Vocabulary& words, int64_t rows, int64_t length) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows * length; ++i) {
    const uint32_t draw = philox_word({5, 0, 0}, static_cast<uint64_t>(i));
    ids.push_back(words.regular[draw % words.regular.size()]);
  }
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {rows, length});
  return batch;
}

struct Masked {
  std::vector<int32_t> before, after, labels;
};

Masked mask(const std::string& settings, const Vocabulary& words, const Batch& batch) {
  const auto model = testing::model_of(
      concat(R"({"model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": )", testing::kVocabulary,
             R"(, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8,
             "max_position_embeddings": )",
             batch.input_ids.size(1), "}"));
  const Batch out =
      make_objective(settings)->prepare(batch, {.model = *model, .vocabulary = &words, .seed = 21, .step = 1});
  return {batch.input_ids.to_vector<int32_t>(), out.input_ids.to_vector<int32_t>(), out.labels.to_vector<int32_t>()};
}

// Devlin et al. 2019: 15 % of the tokens; of these 80 % become [MASK], 10 % a random token, 10 % stay.
TEST(MaskingStatistics, FifteenPercentEightyTenTen) {
  const Vocabulary words = testing::corruption_vocabulary();
  constexpr int64_t kRows = 2560, kLength = 400;
  const Masked m = mask(R"({"type": "mlm"})", words, text_samples(words, kRows, kLength));
  ASSERT_GE(m.before.size(), 1'000'000u);
  std::vector<double> by_place(kLength), by_token(testing::kVocabulary);
  double chosen = 0, masked = 0, kept = 0, replaced = 0;
  for (size_t i = 0; i < m.before.size(); ++i) {
    if (m.labels[i] == kIgnoreIndex) {
      ASSERT_EQ(m.after[i], m.before[i]);
      continue;
    }
    ASSERT_EQ(m.labels[i], m.before[i]);
    ++chosen;
    ++by_place[i % kLength];
    if (m.after[i] == testing::kMask) {
      ++masked;
    } else if (m.after[i] == m.before[i]) {
      ++kept;
    } else {
      ++replaced;
      ++by_token[static_cast<size_t>(m.after[i])];
    }
  }
  EXPECT_EQ(chosen, 0.15 * kRows * kLength) << "60 of every 400";
  const auto regular = static_cast<double>(words.regular.size());
  const double same = 0.1 / regular;  // a random token may be the one that stood there
  EXPECT_NEAR(masked / chosen, 0.8, share_bound(0.8, chosen));
  EXPECT_NEAR(replaced / chosen, 0.1 - same, share_bound(0.1, chosen));
  EXPECT_NEAR(kept / chosen, 0.1 + same, share_bound(0.1, chosen));
  for (int64_t place = 0; place < kLength; ++place) {
    EXPECT_NEAR(by_place[static_cast<size_t>(place)] / kRows, 0.15, share_bound(0.15, kRows)) << place;
  }
  // Pearson's statistic of the random tokens: regular - 1 degrees of freedom, a variance of twice that.
  double statistic = 0.0;
  for (const int32_t id : words.regular) {
    statistic += std::pow(by_token[static_cast<size_t>(id)] - replaced / regular, 2) / (replaced / regular);
  }
  EXPECT_NEAR(statistic, regular - 1.0, 4.5 * std::sqrt(2.0 * (regular - 1.0)));
  EXPECT_EQ(std::accumulate(by_token.begin(), by_token.end(), 0.0), replaced);
}

struct Lengths {
  std::vector<double> likelihood;  // of 1 to 10
  double mean = 0.0, variance = 0.0;
};

// Joshi et al. 2020, section 3.1: geometric, p = 0.2, at most 10 ("a mean span length of 3.8").
Lengths span_lengths() {
  Lengths lengths;
  const double p = 0.2, within = 1.0 - std::pow(1.0 - p, 10);
  double squares = 0.0;
  for (int n = 1; n <= 10; ++n) {
    lengths.likelihood.push_back(std::pow(1.0 - p, n - 1) * p / within);
    lengths.mean += n * lengths.likelihood.back();
    squares += n * n * lengths.likelihood.back();
  }
  lengths.variance = squares - lengths.mean * lengths.mean;
  EXPECT_NEAR(lengths.mean, 3.8, 0.005);
  return lengths;
}

TEST(MaskingStatistics, SpanLengthsAreGeometric) {
  const Lengths expected = span_lengths();
  constexpr int64_t kSamples = 4000, kDraws = 300;
  std::vector<double> counts(11);
  for (int64_t sample = 0; sample < kSamples; ++sample) {
    SampleDraws draws(3, 1, sample);
    for (int64_t i = 0; i < kDraws; ++i) ++counts.at(static_cast<size_t>(draws.geometric(0.2, 10)));
  }
  const double all = kSamples * kDraws;
  double mean = 0.0;
  for (int n = 1; n <= 10; ++n) {
    const double share = counts[static_cast<size_t>(n)] / all, p = expected.likelihood[static_cast<size_t>(n - 1)];
    EXPECT_NEAR(share, p, share_bound(p, all)) << n;
    mean += n * share;
  }
  EXPECT_NEAR(mean, expected.mean, 4.5 * std::sqrt(expected.variance / all));
}

TEST(MaskingStatistics, SpansOfSamplesHaveTheMeanLength) {
  const Lengths expected = span_lengths();
  Vocabulary words = testing::corruption_vocabulary();
  words.continues_word.assign(words.continues_word.size(), false);
  // All chosen tokens are masked, so a run of masks is a span, or several that touch. Rows are long and spans rare:
  // the last span of a row, which the budget of 200 tokens cuts, and spans that touch move the mean by less than 0.1.
  constexpr int64_t kRows = 60, kLength = 20000;
  const Masked m = mask(R"({"type": "mlm", "masking": "span", "probability": 0.01, "mask_fraction": 1.0,
      "random_fraction": 0.0})",
                        words, text_samples(words, kRows, kLength));
  ASSERT_GE(m.before.size(), 1'000'000u);
  double spans = 0, tokens = 0;
  for (size_t i = 0; i < m.labels.size(); ++i) {
    if (m.labels[i] == kIgnoreIndex) continue;
    EXPECT_EQ(m.after[i], testing::kMask);
    ++tokens;
    const bool row_begins = i % kLength == 0;
    if (row_begins || m.labels[i - 1] == kIgnoreIndex) ++spans;
  }
  EXPECT_EQ(tokens, 0.01 * kRows * kLength);
  EXPECT_NEAR(tokens / spans, expected.mean, 0.1 + 4.5 * std::sqrt(expected.variance / spans));
}

}  // namespace
}  // namespace ondol
