// sample: every instruction set and the emulated GPU choose the same token from the same weights, to the bit.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "backend/kernel_tables.h"

namespace ondol {
namespace {

struct Problem {
  int64_t rows = 1, cols = 1;
  std::vector<float> logits;
  std::vector<int32_t> history = {}, history_lengths = {};
  int64_t history_stride = 0;
  float temperature = 1.0f;
  int64_t top_k = 0;
  float top_p = 1.0f, min_p = 0.0f, penalty = 1.0f;
};

struct Choice {
  std::vector<int32_t> tokens;
  std::vector<float> weights;
};

template <class T>
Choice choose(const NamedTable& named, const Problem& p) {
  const std::vector<T> logits(p.logits.begin(), p.logits.end());
  std::vector<int64_t> steps;
  for (int64_t r = 0; r < p.rows; ++r) steps.push_back(100 + r);
  Choice out;
  out.tokens.assign(static_cast<size_t>(p.rows), -7);
  out.weights.assign(logits.size(), 0.0f);
  SampleArgs args{};
  args.logits = logits.data();
  args.rows = p.rows, args.cols = p.cols;
  if (!p.history.empty()) {
    args.history = p.history.data();
    args.history_lengths = p.history_lengths.data();
    args.history_stride = p.history_stride;
  }
  args.temperature = p.temperature;
  args.top_k = p.top_k;
  args.top_p = p.top_p, args.min_p = p.min_p, args.repetition_penalty = p.penalty;
  args.seed = 11;
  args.steps = steps.data();
  args.tokens = out.tokens.data();
  if (p.temperature > 0.0f) args.weights = out.weights.data();
  named.table.sample.get(dtype_of<T>::value)(args, nullptr);
  return out;
}

template <class T>
void expect_equal_choices(const Problem& p, const std::string& what) {
  const auto& tables = kernel_tables_under_test();
  const Choice first = choose<T>(tables.front(), p);
  for (const int32_t token : first.tokens) EXPECT_TRUE(token >= -1 && token < p.cols) << what << ": " << token;
  for (const NamedTable& named : tables) {
    if (named.emulated && p.rows * p.cols > 2200) continue;
    const Choice other = choose<T>(named, p);
    EXPECT_EQ(other.tokens, first.tokens) << what << " " << named.isa;
    EXPECT_EQ(std::memcmp(other.weights.data(), first.weights.data(), first.weights.size() * sizeof(float)), 0)
        << what << " " << named.isa;
  }
}

TEST(Sampling, IsTheSameEverywhere) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  for (const int64_t cols : {1, 2, 31, 33, 700, 1025, 50257}) {
    for (int kind = 0; kind < 14; ++kind) {
      Problem p{.rows = cols > 1000 ? 1 : 3, .cols = cols};
      for (int64_t i = 0; i < p.rows * cols; ++i) {
        // Coarse values have many ties, wide ones vanishing likelihoods.
        const float value = normal(random);
        p.logits.push_back(kind % 3 == 0 ? std::round(value) : kind % 3 == 1 ? value : 20.0f * value);
      }
      if (kind & 1) p.top_k = 1 + static_cast<int64_t>(random() % static_cast<unsigned>(cols));
      if (kind & 2) p.top_p = 0.05f + 0.9f * static_cast<float>(random() % 1000) / 1000.0f;
      if (kind & 4) p.min_p = 0.02f;
      if (kind & 8) {
        p.penalty = 1.3f;
        p.history_stride = 5;
        for (int64_t r = 0; r < p.rows; ++r) {
          for (int i = 0; i < 5; ++i) p.history.push_back(static_cast<int32_t>(random() % static_cast<unsigned>(cols)));
          p.history[p.history.size() - 1] = p.history[p.history.size() - 2];
          p.history_lengths.push_back(static_cast<int32_t>(r == 1 ? 0 : 5));
        }
      }
      p.temperature = kind == 13 ? 0.0f : 0.3f + 0.1f * static_cast<float>(kind);
      const std::string what = "cols " + std::to_string(cols) + " kind " + std::to_string(kind);
      expect_equal_choices<float>(p, what);
      expect_equal_choices<bfloat16>(p, what + " bf16");
    }
  }
}

TEST(Sampling, SpecialValues) {
  for (const NamedTable& named : kernel_tables_under_test()) {
    for (const float temperature : {0.0f, 1.0f}) {
      const auto token = [&](std::vector<float> logits) {
        Problem p{.cols = static_cast<int64_t>(logits.size()), .logits = std::move(logits)};
        p.temperature = temperature;
        p.top_p = 0.9f;
        return choose<float>(named, p).tokens.front();
      };
      EXPECT_EQ(token({0.0f, NAN, 1.0f}), -1) << named.isa;
      EXPECT_EQ(token({0.0f, INFINITY}), -1) << named.isa;
      EXPECT_EQ(token({-INFINITY, -INFINITY}), -1) << named.isa;
      EXPECT_EQ(token({-INFINITY, -2.0f, -INFINITY}), 1) << named.isa;
      EXPECT_EQ(token({-200.0f, 300.0f}), 1) << named.isa;
    }
    // Denormal numbers and both zeros tie; greedy takes the first of equals.
    Problem p{.cols = 4, .logits = {-1.0f, -0.0f, 1e-42f, 0.0f}, .temperature = 0.0f};
    EXPECT_EQ(choose<float>(named, p).tokens.front(), 1) << named.isa;
  }
}

TEST(Sampling, TiesAreKeptFromTheFront) {
  for (const NamedTable& named : kernel_tables_under_test()) {
    Problem p{.cols = 1000, .logits = std::vector<float>(1000, 1.0f), .top_p = 0.2999f};
    const Choice choice = choose<float>(named, p);
    for (size_t i = 0; i < 1000; ++i) EXPECT_EQ(choice.weights[i], i < 300 ? 1.0f : 0.0f) << named.isa << " " << i;
    EXPECT_LT(choice.tokens.front(), 300);
  }
}

}  // namespace
}  // namespace ondol
