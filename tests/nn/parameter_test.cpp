// The parameter store: layout, views, gradients, and the distribution of initial weights.
#include <cmath>

#include <ondol/nn/parameter.h>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

namespace ondol {
namespace {

TEST(ParameterStore, LaysMatricesBeforeVectorsAlignedAndPadded) {
  ParameterStore store;
  const Variable bias = store.add("bias", {5}, Init::zeros());
  const Variable weight = store.add("weight", {3, 7}, Init::ones());
  const Variable conv = store.add("conv", {2, 2, 4}, Init::ones());
  store.materialize(DType::f32, Device{});
  ASSERT_EQ(store.entries().size(), 3u);
  EXPECT_EQ(store.entries()[0].name, "bias");
  EXPECT_EQ(store.entries()[1].offset, 0);
  EXPECT_EQ(store.entries()[2].offset, 256);  // 21 elements, up to a whole block
  EXPECT_EQ(store.matrix_elements(), 512);
  EXPECT_EQ(store.entries()[0].offset, 512);
  EXPECT_EQ(store.flat_elements(), 512 + 16);
  EXPECT_EQ(store.count(), 5 + 21 + 16);
  EXPECT_EQ(weight.shape(), (Shape{3, 7}));
  store.initialize(1);
  std::vector<float> expected(528, 0.0f);
  std::fill_n(expected.begin(), 21, 1.0f);
  std::fill_n(expected.begin() + 256, 16, 1.0f);
  EXPECT_EQ(store.flat_values().to_vector<float>(), expected);
  conv.value().fill(2.0);  // a view: the flat buffer sees it
  EXPECT_EQ(store.flat_values().to_vector<float>()[271], 2.0f);
  EXPECT_EQ(bias.value().to_vector<float>(), std::vector<float>(5, 0.0f));
}

TEST(ParameterStore, RefusesRepeatedNamesAndLateParameters) {
  ParameterStore store;
  store.add("weight", {2, 2}, Init::zeros());
  EXPECT_THROW(store.add("weight", {3}, Init::zeros()), Error);
  store.materialize(DType::f32, Device{});
  EXPECT_THROW(store.add("late", {1}, Init::zeros()), Error);
  EXPECT_THROW(store.use_gradient_buffer(Tensor::zeros({3})), Error);
}

TEST(ParameterStore, ExtrasLieInTheSameBuffersAndAreDrawnAlone) {
  ParameterStore store;
  const Variable weight = store.add("weight", {4, 4}, Init::normal(1.0f));
  const Variable extra = store.add_extra("objective.weight", {2, 4}, Init::normal(1.0f));
  EXPECT_TRUE(store.add_extra("objective.weight", {2, 4}, Init::normal(1.0f)).same_as(extra));
  EXPECT_TRUE(store.extra("objective.weight").same_as(extra));
  EXPECT_THROW(store.add_extra("objective.weight", {4, 2}, Init::zeros()), Error);
  EXPECT_THROW(store.add_extra("weight", {4, 4}, Init::zeros()), Error);
  EXPECT_THROW(store.extra("weight"), Error);
  store.materialize(DType::f32, Device{});
  weight.value().fill(7.0);
  store.initialize_extras(3);
  EXPECT_EQ(weight.value().to_vector<float>(), std::vector<float>(16, 7.0f));
  const std::vector<float> drawn = extra.value().to_vector<float>();
  store.initialize(3);
  EXPECT_EQ(extra.value().to_vector<float>(), drawn);
  EXPECT_EQ(store.count(), 24);
}

TEST(ParameterStore, RefusesMoreWeightsThanCanBeCounted) {
  ParameterStore store;
  for (int i = 0; i < 16; ++i) store.add("w" + std::to_string(i), {int64_t{1} << 30, int64_t{1} << 30}, Init::zeros());
  EXPECT_THROW(store.materialize(DType::f32, Device{}), Error);
}

TEST(ParameterStore, GradientsAreViewsOfOneBuffer) {
  ParameterStore store;
  const Variable used = store.add("used", {2, 2}, Init::zeros());
  const Variable unused = store.add("unused", {3}, Init::zeros());
  store.materialize(DType::bf16, Device{});
  store.enable_gradients();
  store.flat_gradients().fill(7.0);
  store.clear_gradients();
  EXPECT_FALSE(used.has_grad());
  used.add_grad(Tensor::from_vector<float>({1, 2, 3, 4}, {2, 2}));
  store.finish_gradients();
  const std::vector<float> flat = store.flat_gradients().to_vector<float>();
  EXPECT_EQ(store.flat_gradients().dtype(), DType::f32);
  EXPECT_EQ(std::vector<float>(flat.begin(), flat.begin() + 4), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(std::vector<float>(flat.begin() + 256, flat.begin() + 259), (std::vector<float>{0, 0, 0}));
  const Tensor other = Tensor::zeros({store.flat_elements()});
  store.use_gradient_buffer(other);
  used.add_grad(Tensor::from_vector<float>({5, 6, 7, 8}, {2, 2}));
  EXPECT_EQ(other.to_vector<float>()[3], 8.0f);
  EXPECT_FALSE(unused.has_grad());
}

TEST(ParameterStore, WhatIsNotTrainedLiesBehindAndHasNoGradient) {
  ParameterStore store;
  const Variable frozen_bias = store.add("frozen.bias", {5}, Init::ones());
  const Variable frozen = store.add("frozen.weight", {3, 7}, Init::ones());
  const Variable bias = store.add("bias", {4}, Init::ones());
  const Variable weight = store.add("weight", {2, 3}, Init::ones());
  store.set_trainable([](const ParameterStore::Entry& entry) { return !entry.name.starts_with("frozen."); });
  store.materialize(DType::f32, Device{});
  EXPECT_EQ(store.matrix_elements(), 256);
  EXPECT_EQ(store.trainable_elements(), 256 + 16);
  EXPECT_EQ(store.flat_elements(), 512 + 256 + 16);
  EXPECT_EQ(store.trainable_values().numel(), 272);
  EXPECT_EQ(store.count(), 5 + 21 + 4 + 6);
  EXPECT_EQ(store.trainable_count(), 4 + 6);
  EXPECT_EQ(store.entries()[3].offset, 0);    // weight
  EXPECT_EQ(store.entries()[2].offset, 256);  // bias
  EXPECT_EQ(store.entries()[1].offset, 512);  // frozen.weight, at a whole block again
  EXPECT_EQ(store.entries()[0].offset, 768);  // frozen.bias
  EXPECT_FALSE(frozen.requires_grad());
  EXPECT_FALSE(frozen_bias.requires_grad());
  EXPECT_TRUE(weight.requires_grad());
  EXPECT_TRUE(bias.requires_grad());
  store.enable_gradients();
  EXPECT_EQ(store.flat_gradients().numel(), 272);
  store.flat_gradients().fill(7.0);
  store.clear_gradients();
  store.finish_gradients();
  EXPECT_EQ(store.flat_gradients().narrow(0, 0, 6).to_vector<float>(), std::vector<float>(6, 0.0f));
  EXPECT_THROW(store.use_gradient_buffer(Tensor::zeros({80})), Error);
  EXPECT_THROW(store.set_trainable([](const ParameterStore::Entry&) { return true; }), Error);
}

TEST(WeightSlot, ViewsRowsAndTransposes) {
  const Tensor whole = Tensor::from_vector<float>({0, 1, 2, 3, 4, 5, 6, 7}, {4, 2});
  const Variable parameter(whole);
  EXPECT_EQ((WeightSlot{.name = "all", .parameter = parameter}.view(whole).to_vector<float>()),
            whole.to_vector<float>());
  const WeightSlot rows{.name = "rows", .parameter = parameter, .row_start = 1, .row_count = 2};
  EXPECT_EQ(rows.view(whole).to_vector<float>(), (std::vector<float>{2, 3, 4, 5}));
  const WeightSlot turned{.name = "turned", .parameter = parameter, .row_start = 2, .row_count = 2, .transposed = true};
  EXPECT_EQ(turned.view(whole).to_vector<float>(), (std::vector<float>{4, 6, 5, 7}));
}

struct Moments {
  double mean = 0, deviation = 0, skewness = 0, kurtosis = 0, largest = 0;
};

Moments moments(const std::vector<float>& values) {
  Moments m;
  const auto n = static_cast<double>(values.size());
  for (const float v : values) m.mean += v / n;
  double second = 0, third = 0, fourth = 0;
  for (const float v : values) {
    const double d = v - m.mean;
    second += d * d / n;
    third += d * d * d / n;
    fourth += d * d * d * d / n;
    m.largest = std::max(m.largest, std::fabs(static_cast<double>(v)));
  }
  m.deviation = std::sqrt(second);
  m.skewness = third / std::pow(second, 1.5);
  m.kurtosis = fourth / (second * second);
  return m;
}

// Tolerances are five standard errors for 65536 draws.
TEST(Initialization, NormalHasTheMomentsOfANormalDistribution) {
  ParameterStore store;
  const Variable weight = store.add("weight", {256, 256}, Init::normal(0.02f));
  store.materialize(DType::f32, Device{});
  store.initialize(3);
  const Moments m = moments(weight.value().to_vector<float>());
  EXPECT_NEAR(m.mean, 0.0, 5 * 0.02 / 256);
  EXPECT_NEAR(m.deviation, 0.02, 5 * 0.02 / std::sqrt(2 * 65536.0));
  EXPECT_NEAR(m.skewness, 0.0, 5 * std::sqrt(6 / 65536.0));
  EXPECT_NEAR(m.kurtosis, 3.0, 5 * std::sqrt(24 / 65536.0));
  EXPECT_GT(m.largest, 3.5 * 0.02);
}

TEST(Initialization, UniformFillsItsInterval) {
  ParameterStore store;
  const Variable weight = store.add("weight", {256, 256}, Init::uniform(0.5f));
  store.materialize(DType::f32, Device{});
  store.initialize(3);
  const Moments m = moments(weight.value().to_vector<float>());
  EXPECT_NEAR(m.mean, 0.0, 5 * 0.5 / std::sqrt(3.0) / 256);
  EXPECT_NEAR(m.deviation, 0.5 / std::sqrt(3.0), 5 * 0.5 / std::sqrt(3.0) * std::sqrt(0.2 / 65536.0));
  EXPECT_NEAR(m.kurtosis, 1.8, 0.03);
  EXPECT_LE(m.largest, 0.5);
  EXPECT_GT(m.largest, 0.499);
}

TEST(Initialization, FollowsFromSeedAndNameAlone) {
  const auto draw = [](const std::vector<std::string>& names, uint64_t seed, DType dtype) {
    ParameterStore store;
    std::vector<Variable> variables;
    for (const std::string& name : names) variables.push_back(store.add(name, {16, 8}, Init::normal(1.0f)));
    store.materialize(dtype, Device{});
    store.initialize(seed);
    std::vector<std::vector<float>> values;
    for (const Variable& variable : variables) values.push_back(variable.value().to_vector<float>());
    return values;
  };
  const auto first = draw({"a", "b"}, 1, DType::f32);
  const auto swapped = draw({"b", "a"}, 1, DType::f32);
  EXPECT_EQ(first[0], swapped[1]);
  EXPECT_EQ(first[1], swapped[0]);
  EXPECT_NE(first[0], first[1]);
  EXPECT_NE(first[0], draw({"a"}, 2, DType::f32)[0]);
  const auto rounded = draw({"a"}, 1, DType::bf16)[0];
  for (size_t i = 0; i < rounded.size(); ++i) EXPECT_EQ(rounded[i], static_cast<float>(bfloat16(first[0][i])));
}

}  // namespace
}  // namespace ondol
