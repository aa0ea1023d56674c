// Infinities, NaN, ties and extreme magnitudes, and the statistics of dropout: what random cases do not reach.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include <ondol/ops/attention.h>
#include <ondol/ops/dropout.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/norm.h>
#include <ondol/ops/optimizer.h>
#include <ondol/ops/reduce.h>

namespace ondol {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Tensor row(const std::vector<float>& values) {
  return Tensor::from_vector(values, {1, static_cast<int64_t>(values.size())});
}

TEST(SpecialValues, SoftmaxOfExtremeLogits) {
  const std::vector<float> p = ops::softmax(row({1e4f, 1e4f, -kInfinity, -1e4f})).to_vector<float>();
  EXPECT_EQ(p, (std::vector<float>{0.5f, 0.5f, 0.0f, 0.0f}));
  const auto r = ops::cross_entropy(row({1e4f, -1e4f}), Tensor::from_vector<int32_t>({1}, {1}));
  EXPECT_EQ(r.loss.item(), 2e4);
  EXPECT_TRUE(std::isnan(ops::softmax(row({kNan, 1.0f})).to_vector<float>()[1]));
}

TEST(SpecialValues, NanPassesThrough) {
  std::vector<float> values(100, 1.0f);
  values[77] = kNan;
  const Tensor x = row(values);
  EXPECT_TRUE(std::isnan(ops::max(x, 1).item()));
  EXPECT_TRUE(std::isnan(ops::max(x.reshape({100, 1}).expand({100, 3}).contiguous(), 0).to_vector<float>()[2]));
  EXPECT_TRUE(std::isnan(ops::sum(x, 1).item()));
  EXPECT_TRUE(std::isnan(ops::sum_squares(x).item()));
  EXPECT_EQ(ops::argmax(x).item(), 77);
  for (const Activation kind : {Activation::relu, Activation::gelu_erf, Activation::gelu_tanh, Activation::silu,
                                Activation::tanh, Activation::sigmoid}) {
    EXPECT_TRUE(std::isnan(ops::activation(x, kind).to_vector<float>()[77])) << static_cast<int>(kind);
    EXPECT_FALSE(std::isnan(ops::activation(x, kind).to_vector<float>()[76])) << static_cast<int>(kind);
  }
  EXPECT_TRUE(std::isnan(ops::rms_norm(x, {}, {}).out.to_vector<float>()[0]));
}

TEST(SpecialValues, ArgmaxGivesTheFirstOfEquals) {
  std::vector<float> values(70, -3.0f);
  values[37] = values[38] = values[69] = 5.0f;
  EXPECT_EQ(ops::argmax(row(values)).item(), 37);
  EXPECT_EQ(ops::argmax(row(values).to(DType::bf16)).item(), 37);
  EXPECT_EQ(ops::argmax(row(std::vector<float>(9, -kInfinity))).item(), 0);
}

TEST(SpecialValues, SumSquaresBeyondTheFloatRange) {
  EXPECT_EQ(ops::sum_squares(Tensor::full({4}, 0x1p100)).item(), 0x1p202);
  EXPECT_EQ(ops::sum_squares(Tensor::full({4}, kInfinity)).item(), static_cast<double>(kInfinity));
  EXPECT_EQ(ops::sum_squares(Tensor::zeros({0})).item(), 0.0);
}

TEST(SpecialValues, DropoutKeepsTheRightShareAndZeroesInfinities) {
  const Tensor ones = Tensor::full({200000}, 1.0);
  const double mean = ops::mean(ops::dropout(ones, 0.3f, {7, 1, {}}), 0).item();
  EXPECT_NEAR(mean, 1.0, 0.01);
  const Tensor infinite = ops::dropout(Tensor::full({64}, kInfinity), 0.5f, {7, 1, {}});
  int zeros = 0;
  for (const float value : infinite.to_vector<float>()) {
    EXPECT_TRUE(value == 0.0f || value == kInfinity);
    zeros += value == 0.0f;
  }
  EXPECT_GT(zeros, 0);
}

TEST(SpecialValues, DropoutMaskFollowsTheStep) {
  const Tensor x = Tensor::full({256}, 1.0);
  const auto at = [&x](int64_t step) {
    return ops::dropout(x, 0.5f, {1, 2, Tensor::from_vector<int64_t>({step}, {1})}).to_vector<float>();
  };
  EXPECT_EQ(at(3), at(3));
  EXPECT_NE(at(3), at(4));
}

TEST(SpecialValues, LinearCrossEntropyWithNothingToCount) {
  const Tensor hidden = Tensor::full({3, 4}, 1.0), weight = Tensor::full({5, 4}, 1.0);
  const Tensor labels = Tensor::full({3}, -100, DType::i32);
  const auto r = ops::linear_cross_entropy(hidden, weight, labels, {.projection = {.gradients = true}});
  EXPECT_EQ(r.loss.item(), 0.0);
  EXPECT_EQ(ops::sum_squares(r.grad_hidden).item(), 0.0);
  EXPECT_EQ(ops::sum_squares(r.grad_weight).item(), 0.0);
}

}  // namespace
}  // namespace ondol
