// Low-rank additions against the same function composed of plain ones: values and gradients, of fused rows, with
// activation, residual, bias and dropout, on plain and quantised weights.
#include <cmath>
#include <random>

#include <gtest/gtest.h>

#include <ondol/autograd/functions.h>
#include <ondol/autograd/low_rank.h>
#include <ondol/ops/quantized.h>

namespace ondol {
namespace {

Variable random(const Shape& shape, unsigned seed, bool wanted = true) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (float& value : values) value = normal(engine);
  return Variable(Tensor::from_vector(values, shape), wanted);
}

struct Inputs {
  Variable x = random({2, 3, 32}, 1), weight = random({10, 32}, 2, false), bias = random({10}, 3);
  Variable residual = random({2, 3, 10}, 4), a = random({4, 32}, 5), b0 = random({3, 2}, 6), b1 = random({4, 2}, 7);
};

std::vector<std::vector<float>> gradients(const Inputs& in, const Variable& out) {
  std::vector<std::vector<float>> results = {out.value().to_vector<float>()};
  for (const Variable& leaf : {in.x, in.bias, in.residual, in.a, in.b0, in.b1}) {
    results.push_back(leaf.has_grad() ? leaf.grad().to_vector<float>() : std::vector<float>());
  }
  return results;
}

constexpr float kScale = 0.75f, kDropout = 0.25f;

/// Rows 0 to 2 and 6 to 9 have an addition, those between have none.
std::vector<std::vector<float>> composed(std::optional<Activation> activation, const RngKey* key) {
  const Inputs in;
  Tape tape;
  const Variable dropped = key != nullptr ? functions::dropout(in.x, kDropout, *key) : in.x;
  const auto addition = [&](int part, const Variable& b) {
    const Variable a = functions::narrow(in.a, 0, 2 * part, 2);
    return functions::scale(functions::linear(functions::linear(dropped, {.weight = a}), {.weight = b}), kScale);
  };
  const Variable none(Tensor::zeros({2, 3, 3}));
  const Variable sum = functions::concat({addition(0, in.b0), none, addition(1, in.b1)}, 2);
  Variable out = functions::add(functions::linear(in.x, {.weight = in.weight, .bias = in.bias}), sum);
  if (activation) out = functions::activation(out, *activation);
  out = functions::add(out, in.residual);
  tape.backward(out, random({2, 3, 10}, 9).value());
  return gradients(in, out);
}

std::vector<std::vector<float>> adapted(std::optional<Activation> activation, const RngKey* key, bool quantized) {
  const Inputs in;
  LowRankUpdate update{.a = in.a, .parts = {{in.b0, 0, 3}, {in.b1, 6, 4}}, .scale = kScale, .dropout = kDropout};
  update.stream = 5;
  in.weight.set_low_rank(std::make_shared<LowRankUpdate>(update));
  if (quantized) {
    in.weight.set_quantized(std::make_shared<QuantizedWeight>(ops::quantize(in.weight.value(), QuantFormat::q8_0)));
  }
  std::optional<LowRankDropout> scope;
  if (key != nullptr) {
    RngKey base = *key;
    base.stream -= 5;
    scope.emplace(base);
  }
  Tape tape;
  const Variable out = functions::linear(
      in.x, {.weight = in.weight, .bias = in.bias, .activation = activation, .residual = in.residual});
  tape.backward(out, random({2, 3, 10}, 9).value());
  EXPECT_FALSE(in.weight.has_grad());
  return gradients(in, out);
}

class LowRank : public ::testing::TestWithParam<std::tuple<bool, bool>> {};
INSTANTIATE_TEST_SUITE_P(Linear, LowRank, ::testing::Combine(::testing::Bool(), ::testing::Bool()));

TEST_P(LowRank, IsTheSumOfTheProducts) {
  const auto [activated, dropped] = GetParam();
  const std::optional<Activation> activation = activated ? std::optional(Activation::gelu_tanh) : std::nullopt;
  const RngKey key{.seed = 3, .stream = 40, .step = Tensor::from_vector<int64_t>({2}, {1})};
  const auto wanted = composed(activation, dropped ? &key : nullptr);
  for (const bool quantized : {false, true}) {
    const auto found = adapted(activation, dropped ? &key : nullptr, quantized);
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_EQ(found[i].size(), wanted[i].size()) << i;
      double error = 0.0, size = 0.0;
      for (size_t j = 0; j < wanted[i].size(); ++j) {
        error += std::pow(found[i][j] - wanted[i][j], 2);
        size += std::pow(wanted[i][j], 2);
      }
      // Rounding of sums; quantised weights are off by half a step of 1/127 of the largest of 32.
      EXPECT_LE(std::sqrt(error), (quantized ? 2e-2 : 1e-6) * std::sqrt(size)) << "tensor " << i << " " << quantized;
    }
  }
}

}  // namespace
}  // namespace ondol
