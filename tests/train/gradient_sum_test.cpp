#include "train/gradient_sum.h"

#include <cmath>

#include <gtest/gtest.h>

#include <ondol/base/philox.h>

namespace ondol {
namespace {

constexpr int64_t kSize = 19;

/// Values of very different size, so that every order of summation gives other bits.
std::vector<float> gradient(int index) {
  std::vector<float> values(kSize);
  for (int64_t i = 0; i < kSize; ++i) {
    const PhiloxKey key{3, static_cast<uint32_t>(index), 0};
    values[i] = static_cast<float>(philox_normal(key, i) * std::exp(6.0 * philox_normal(key, i + 1000)));
  }
  return values;
}

/// The definition: a sum over [begin, end) is the sum over its largest leading power of two plus the rest.
template <class Vector>
Vector tree(const std::vector<Vector>& all, size_t begin, size_t end) {
  if (end - begin == 1) return all[begin];
  size_t half = 1;
  while (2 * half < end - begin) half *= 2;
  Vector left = tree(all, begin, begin + half);
  const Vector right = tree(all, begin + half, end);
  for (size_t i = 0; i < left.size(); ++i) left[i] += right[i];
  return left;
}

class MicroBatches : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(GradientSum, MicroBatches, ::testing::Values(1, 2, 3, 4, 5, 7, 8, 13, 16));

TEST_P(MicroBatches, SumFollowsTheTree) {
  ParameterStore store;
  const Variable parameter = store.add("w", {kSize}, Init::zeros());
  const Variable unused = store.add("unused", {2, 2}, Init::zeros());
  store.materialize(DType::f32, {});
  store.enable_gradients();
  GradientSum sum(store);
  for (int round = 0; round < 2; ++round) {  // the second time with buffers that hold old values
    std::vector<std::vector<float>> all;
    for (int i = 0; i < GetParam(); ++i) {
      all.push_back(gradient(100 * round + i));
      sum.begin(i + 1 == GetParam());
      parameter.add_grad(Tensor::from_vector(all.back(), {kSize}));
      sum.end();
    }
    sum.finish();
    const auto entry = store.entries()[0];
    EXPECT_EQ(store.flat_gradients().narrow(0, entry.offset, kSize).to_vector<float>(), tree(all, 0, all.size()));
    EXPECT_EQ(store.flat_gradients().narrow(0, store.entries()[1].offset, 4).to_vector<float>(),
              std::vector<float>(4, 0.0f));
  }
}

TEST_P(MicroBatches, NumbersFollowTheSameTree) {
  std::vector<double> numbers;
  std::vector<std::vector<double>> all;
  for (int i = 0; i < GetParam(); ++i) {
    numbers.push_back(gradient(i)[0]);
    all.push_back({numbers.back()});
  }
  EXPECT_EQ(tree_sum(numbers), tree(all, 0, all.size())[0]);
}

TEST(GradientSum, AnotherOrderGivesOtherBits) {  // or the tests above could not fail
  std::vector<std::vector<float>> all;
  for (int i = 0; i < 8; ++i) all.push_back(gradient(i));
  std::vector<float> sequential = all[0];
  for (size_t k = 1; k < all.size(); ++k) {
    for (size_t i = 0; i < kSize; ++i) sequential[i] += all[k][i];
  }
  EXPECT_NE(sequential, tree(all, 0, all.size()));
}

TEST(GradientSum, NeedsAMicroBatch) {
  ParameterStore store;
  store.add("w", {2}, Init::zeros());
  store.materialize(DType::f32, {});
  GradientSum sum(store);
  EXPECT_THROW(sum.finish(), Error);
}

}  // namespace
}  // namespace ondol
