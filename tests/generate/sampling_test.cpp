// Sampling settings against their definitions on distributions that can be worked out by hand.
#include <cmath>
#include <map>

#include <ondol/base/error.h>
#include <ondol/generate/sampling.h>

#include <gtest/gtest.h>

namespace ondol {
namespace {

// Probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625.
const std::vector<float> kLogits = {std::log(0.5f), std::log(0.25f), std::log(0.125f), std::log(0.0625f),
                                    std::log(0.0625f)};

std::map<int32_t, double> distribution(const SamplingOptions& options, const std::vector<int32_t>& ids = {}) {
  std::map<int32_t, double> result;
  for (const TokenProbability& token : token_distribution(kLogits, ids, options)) result[token.id] = token.probability;
  return result;
}

void expect_near(const std::map<int32_t, double>& actual, const std::map<int32_t, double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [id, probability] : expected) {
    ASSERT_TRUE(actual.contains(id)) << id;
    EXPECT_NEAR(actual.at(id), probability, 1e-6) << id;
  }
}

TEST(Sampling, PlainSoftmax) {
  expect_near(distribution({.temperature = 1}), {{0, 0.5}, {1, 0.25}, {2, 0.125}, {3, 0.0625}, {4, 0.0625}});
}

TEST(Sampling, TemperatureRaisesProbabilitiesToItsInverse) {
  // Squares: 1/4, 1/16, 1/64, 1/256, 1/256 with sum 86/256.
  expect_near(distribution({.temperature = 0.5f}),
              {{0, 64.0 / 86}, {1, 16.0 / 86}, {2, 4.0 / 86}, {3, 1.0 / 86}, {4, 1.0 / 86}});
}

TEST(Sampling, TopK) {
  expect_near(distribution({.temperature = 1, .top_k = 2}), {{0, 2.0 / 3}, {1, 1.0 / 3}});
  // A tie with the last one is kept.
  EXPECT_EQ(distribution({.temperature = 1, .top_k = 4}).size(), 5u);
  EXPECT_EQ(distribution({.temperature = 1, .top_k = 50}).size(), 5u);
}

TEST(Sampling, TopPKeepsTheSmallestSetThatHoldsIt) {
  expect_near(distribution({.temperature = 1, .top_p = 0.6f}), {{0, 2.0 / 3}, {1, 1.0 / 3}});
  expect_near(distribution({.temperature = 1, .top_p = 0.4f}), {{0, 1.0}});
  expect_near(distribution({.temperature = 1, .top_p = 0.001f}), {{0, 1.0}});
  EXPECT_EQ(distribution({.temperature = 1, .top_p = 0.8f}).size(), 3u);
}

TEST(Sampling, TopPCountsWhatTopKLeft) {
  // After top-k = 2: 2/3 and 1/3.
  EXPECT_EQ(distribution({.temperature = 1, .top_k = 2, .top_p = 0.6f}).size(), 1u);
  EXPECT_EQ(distribution({.temperature = 1, .top_k = 2, .top_p = 0.7f}).size(), 2u);
}

TEST(Sampling, MinPIsRelativeToTheMostLikely) {
  EXPECT_EQ(distribution({.temperature = 1, .min_p = 0.3f}).size(), 2u);
  EXPECT_EQ(distribution({.temperature = 1, .min_p = 0.2f}).size(), 3u);
  EXPECT_EQ(distribution({.temperature = 1, .min_p = 1.0f}).size(), 1u);
}

TEST(Sampling, TopPOfALargeVocabulary) {
  // 1000 equal tokens: 30 % of the mass needs 300 of them, the first by id.
  const std::vector<float> equal(1000, 1.0f);
  const auto kept = token_distribution(equal, {}, {.temperature = 1, .top_p = 0.2999f});
  ASSERT_EQ(kept.size(), 300u);
  EXPECT_EQ(kept.front().id, 0);
  EXPECT_EQ(kept.back().id, 299);
}

TEST(Sampling, RepetitionPenalty) {
  std::vector<float> scores = {2.0f, -2.0f, 3.0f};
  apply_repetition_penalty(scores, std::vector<int32_t>{0, 1, 0}, 2.0f);
  EXPECT_EQ(scores, (std::vector<float>{1.0f, -4.0f, 3.0f}));
  EXPECT_EQ(sample_token(std::vector<float>{2.0f, 1.5f}, std::vector<int32_t>{0}, {.repetition_penalty = 2.0f}, 0), 1);
}

TEST(Sampling, FrequenciesFollowTheDistribution) {
  std::vector<int> counts(5);
  constexpr int kDraws = 20000;
  for (int step = 0; step < kDraws; ++step) {
    ++counts[static_cast<size_t>(
        sample_token(kLogits, {}, {.temperature = 1, .seed = 3}, static_cast<uint64_t>(step)))];
  }
  double chi_squared = 0;
  const double expected[] = {0.5, 0.25, 0.125, 0.0625, 0.0625};
  for (size_t i = 0; i < 5; ++i) {
    const double difference = counts[i] - kDraws * expected[i];
    chi_squared += difference * difference / (kDraws * expected[i]);
  }
  EXPECT_LT(chi_squared, 18.47);  // 0.1 % of true samples exceed it (4 degrees of freedom)
}

TEST(Sampling, RefusesValuesOutOfRange) {
  EXPECT_THROW(check_sampling_options({.temperature = -0.1f}), UsageError);
  EXPECT_THROW(check_sampling_options({.top_k = -1}), UsageError);
  EXPECT_THROW(check_sampling_options({.top_p = 1.5f}), UsageError);
  EXPECT_THROW(check_sampling_options({.min_p = -1.0f}), UsageError);
  EXPECT_THROW(check_sampling_options({.repetition_penalty = 0.0f}), UsageError);
  EXPECT_THROW(token_distribution(std::vector<float>{NAN, NAN}, {}, {.temperature = 1}), Error);
}

}  // namespace
}  // namespace ondol
