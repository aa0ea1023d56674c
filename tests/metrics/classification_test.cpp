// Expected values: scikit-learn 1.9.1, SciPy 1.17.1 and seqeval 1.2.2 on the same numbers.
#include <cmath>
#include <vector>

#include <ondol/base/error.h>
#include <ondol/metrics/classification.h>
#include <ondol/metrics/entities.h>

#include <gtest/gtest.h>

namespace ondol::metrics {
namespace {

struct Labels {
  std::vector<int32_t> predicted, expected;
};

/// Five classes are predicted, three of them occur.
Labels five_classes() {
  Labels labels;
  for (int32_t i = 0; i < 60; ++i) {
    const int32_t label = (i * i + 3 * i) % 5;
    labels.expected.push_back(label);
    labels.predicted.push_back(i % 3 != 0 ? label : (label + i) % 5);
  }
  return labels;
}

Labels two_classes() {
  Labels labels = five_classes();
  for (int32_t& label : labels.predicted) label %= 2;
  for (int32_t& label : labels.expected) label %= 2;
  return labels;
}

TEST(Classification, AgreesWithScikitLearn) {
  const auto [predicted, expected] = five_classes();
  EXPECT_NEAR(accuracy(predicted, expected), 0.7333333333333333, 1e-15);
  EXPECT_NEAR(f1(predicted, expected, {.average = Average::macro}), 0.4866666666666667, 1e-15);
  EXPECT_NEAR(f1(predicted, expected, {.average = Average::micro}), 0.7333333333333333, 1e-15);
  EXPECT_NEAR(matthews_correlation(predicted, expected), 0.6442167677905001, 1e-15);
}

TEST(Classification, BinaryF1IsThatOfThePositiveClass) {
  const auto [predicted, expected] = two_classes();
  EXPECT_NEAR(f1(predicted, expected), 0.9090909090909091, 1e-15);
  EXPECT_NEAR(f1(predicted, expected, {.positive = 0}), 0.9473684210526315, 1e-15);
  EXPECT_NEAR(matthews_correlation(predicted, expected), 0.8660254037844386, 1e-15);
}

TEST(Classification, WhatCannotBeDividedIsZero) {
  const std::vector<int32_t> zeros(5, 0), ones(5, 1);
  EXPECT_EQ(f1(zeros, zeros), 0.0);
  EXPECT_EQ(f1(ones, zeros, {.average = Average::macro}), 0.0);
  EXPECT_EQ(matthews_correlation(ones, zeros), 0.0);
}

TEST(Classification, SeveralLabelsAtOnce) {
  std::vector<uint8_t> predicted, expected;
  for (int i = 0; i < 20; ++i) {
    for (int j = 0; j < 4; ++j) {
      expected.push_back((i * j + i) % 3 == 0 ? 1 : 0);
      predicted.push_back((i * j + i + (i % 5 < 2 ? j : 0)) % 3 == 0 ? 1 : 0);
    }
  }
  EXPECT_NEAR(multi_label_f1(predicted, expected, 4, Average::micro), 0.8108108108108109, 1e-15);
  EXPECT_NEAR(multi_label_f1(predicted, expected, 4, Average::macro), 0.8303571428571428, 1e-15);
  EXPECT_NEAR(subset_accuracy(predicted, expected, 4), 0.6, 1e-15);
}

TEST(Correlation, AgreesWithSciPy) {
  std::vector<double> x, y;  // with many ties
  for (int i = 0; i < 40; ++i) {
    x.push_back((i * 37 % 11) * 0.5);
    y.push_back((i * 37 % 11) * 0.25 + (i * 13 % 7) * 0.4);
  }
  EXPECT_NEAR(pearson(x, y), 0.7289328312380104, 1e-14);
  EXPECT_NEAR(spearman(x, y), 0.7104701767070635, 1e-14);
  EXPECT_NEAR(mean_squared_error(std::vector<double>{1.0, 2.0}, std::vector<double>{1.5, 4.0}), 2.125, 1e-15);
  EXPECT_TRUE(std::isnan(pearson(x, std::vector<double>(40, 2.0))));
}

TEST(Classification, RefusesListsThatDoNotBelongTogether) {
  const std::vector<int32_t> one = {1}, two = {1, 0}, none;
  EXPECT_THROW(accuracy(one, two), Error);
  EXPECT_THROW(accuracy(none, none), Error);
  const std::vector<uint8_t> rows(6, 1);
  EXPECT_THROW(multi_label_f1(rows, rows, 4, Average::micro), Error);
  EXPECT_THROW(subset_accuracy(rows, rows, 0), Error);
  EXPECT_THROW(perplexity(1.0, 0), Error);
}

TEST(Classification, PerplexityOfAUniformChoiceIsTheNumberOfChoices) {
  EXPECT_NEAR(perplexity(7.0 * std::log(13.0), 7), 13.0, 1e-13);
}

using Sentences = std::vector<std::vector<std::string>>;

const Sentences kExpected = {{"O", "O", "B-MISC", "I-MISC", "B-MISC", "O", "O"},
                             {"B-PER", "I-PER", "O"},
                             {"I-LOC", "I-LOC", "B-LOC", "O", "E-ORG", "S-ORG"},
                             {"B-PER", "E-PER", "S-LOC", "I-LOC", "O", "B", "I"}};
const Sentences kPredicted = {{"O", "O", "B-MISC", "I-MISC", "B-MISC", "I-MISC", "O"},
                              {"B-PER", "I-PER", "O"},
                              {"B-LOC", "I-LOC", "I-LOC", "O", "S-ORG", "I-ORG"},
                              {"I-PER", "E-PER", "B-LOC", "I-PER", "O", "B", "I"}};

TEST(Entities, SchemesAndBrokenSchemesAgreeWithSeqeval) {
  EXPECT_EQ(find_entities(kExpected[0]), (std::vector<Entity>{{"MISC", 2, 4}, {"MISC", 4, 5}}));
  EXPECT_EQ(find_entities(kExpected[2]),
            (std::vector<Entity>{{"LOC", 0, 2}, {"LOC", 2, 3}, {"ORG", 4, 5}, {"ORG", 5, 6}}));
  EXPECT_EQ(find_entities(kExpected[3]),
            (std::vector<Entity>{{"PER", 0, 2}, {"LOC", 2, 3}, {"LOC", 3, 4}, {"_", 5, 7}}));
  EXPECT_EQ(find_entities(kPredicted[2]), (std::vector<Entity>{{"LOC", 0, 3}, {"ORG", 4, 5}, {"ORG", 5, 6}}));
  EXPECT_EQ(find_entities(kPredicted[3]),
            (std::vector<Entity>{{"PER", 0, 2}, {"LOC", 2, 3}, {"PER", 3, 4}, {"_", 5, 7}}));
}

TEST(Entities, ScoresAgreeWithSeqeval) {
  const EntityScores scores = entity_scores(kPredicted, kExpected);
  EXPECT_NEAR(scores.precision, 0.7, 1e-15);
  EXPECT_NEAR(scores.recall, 0.6363636363636364, 1e-15);
  EXPECT_NEAR(scores.f1, 0.6666666666666666, 1e-15);
  EXPECT_NEAR(scores.accuracy, 0.6521739130434783, 1e-15);
  EXPECT_EQ(scores.expected, 11);
}

TEST(Entities, NoEntitiesAndSentencesOfDifferentLengths) {
  const Sentences outside = {{"O", "O"}};
  EXPECT_EQ(entity_scores(outside, outside).f1, 0.0);
  EXPECT_THROW(entity_scores(outside, Sentences{{"O"}}), Error);
  EXPECT_THROW(entity_scores(outside, Sentences{}), Error);
}

}  // namespace
}  // namespace ondol::metrics
