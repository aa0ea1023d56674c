// Tokens that linear_cross_entropy draws: their distribution, and what it depends on.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/ops/loss.h>

namespace ondol {
namespace {

struct Draws {
  std::vector<int32_t> tokens, replaced;
};

/// Draws from softmax(logits / temperature) for samples x length rows whose label is `label`.
Draws draw(const std::vector<float>& logits, int64_t first_sample, int64_t samples, int64_t length, int32_t label,
           float temperature = 1.0f, uint64_t seed = 5) {
  const auto vocab = static_cast<int64_t>(logits.size());
  const int64_t rows = samples * length;
  std::vector<int64_t> numbers;
  for (int64_t b = 0; b < samples; ++b) numbers.push_back(first_sample + b);
  ops::TokenDraw to{.seed = seed, .stream = 3, .samples = Tensor::from_vector(numbers, {samples}), .length = length};
  to.temperature = temperature;
  to.tokens = Tensor::full({rows}, -1, DType::i32);
  to.replaced = Tensor::full({rows}, -1, DType::i32);
  ops::linear_cross_entropy(Tensor::full({rows, 1}, 1.0), Tensor::from_vector(logits, {vocab, 1}),
                            Tensor::full({rows}, label, DType::i32), {.draw = &to});
  return {to.tokens.to_vector<int32_t>(), to.replaced.to_vector<int32_t>()};
}

/// Pearson's statistic of the drawn tokens against softmax(logits / temperature).
double chi_squared(const std::vector<float>& logits, const std::vector<int32_t>& tokens, double temperature) {
  double total = 0.0;
  for (const float z : logits) total += std::exp(static_cast<double>(z) / temperature);
  std::vector<double> counts(logits.size());
  for (const int32_t token : tokens) counts.at(static_cast<size_t>(token)) += 1.0;
  double sum = 0.0;
  for (size_t v = 0; v < logits.size(); ++v) {
    const double expected =
        static_cast<double>(tokens.size()) * std::exp(static_cast<double>(logits[v]) / temperature) / total;
    sum += (counts[v] - expected) * (counts[v] - expected) / expected;
  }
  return sum;
}

TEST(ReplaceTokens, DrawsFromTheSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.5f, -3.0f, 0.3f, 1.7f, -0.2f, 0.9f};
  for (const float temperature : {1.0f, 0.5f}) {
    const Draws drawn = draw(logits, 1000, 500, 400, 3, temperature);
    // Eight degrees of freedom: 42.7 is passed once in a million times.
    EXPECT_LT(chi_squared(logits, drawn.tokens, static_cast<double>(temperature)), 42.7) << temperature;
    for (size_t i = 0; i < drawn.tokens.size(); ++i) ASSERT_EQ(drawn.replaced[i], drawn.tokens[i] == 3 ? 0 : 1);
  }
  const Draws hot = draw(logits, 1000, 500, 400, 3, 1.0f);
  EXPECT_GT(chi_squared(logits, hot.tokens, 0.9), 100.0) << "the statistic tells another temperature";
}

TEST(ReplaceTokens, DependOnSeedSampleAndPlaceAlone) {
  const std::vector<float> logits(97, 0.0f);
  const Draws all = draw(logits, 40, 6, 20, 0);
  const Draws part = draw(logits, 42, 3, 20, 0);
  EXPECT_EQ(part.tokens, std::vector<int32_t>(all.tokens.begin() + 40, all.tokens.begin() + 100));
  EXPECT_NE(draw(logits, 42, 3, 20, 0, 1.0f, 6).tokens, part.tokens);
  const Draws far = draw(logits, 42 + (int64_t{1} << 32), 3, 20, 0);
  EXPECT_NE(far.tokens, part.tokens);
}

}  // namespace
}  // namespace ondol
