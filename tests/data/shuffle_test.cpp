#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ondol/base/error.h>
#include <ondol/data/mixture.h>
#include <ondol/data/permutation.h>

namespace ondol {
namespace {

std::vector<int64_t> order_of(int64_t n, PhiloxKey key) {
  const Permutation permutation(n, key);
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) order[i] = permutation(i);
  return order;
}

TEST(Permutation, IsBijectiveForManySizes) {
  std::vector<int64_t> sizes(300);
  std::iota(sizes.begin(), sizes.end(), 1);
  for (const int64_t n : {511, 512, 513, 1000, 4096, 65535, 65536, 65537, 100003}) sizes.push_back(n);
  for (const int64_t n : sizes) {
    std::vector<bool> seen(static_cast<size_t>(n));
    for (const int64_t value : order_of(n, {17, 3, 2})) {
      ASSERT_TRUE(value >= 0 && value < n);
      ASSERT_FALSE(seen[value]) << n;
      seen[value] = true;
    }
  }
}

TEST(Permutation, HugeSizesNeedNoList) {
  const int64_t n = (int64_t{1} << 50) + 12345;
  const Permutation permutation(n, {1, 0, 0});
  std::vector<int64_t> values;
  for (int64_t i = 0; i < 1000; ++i) values.push_back(permutation(i * (n / 1000)));
  std::sort(values.begin(), values.end());
  EXPECT_EQ(std::unique(values.begin(), values.end()), values.end());
  EXPECT_GE(values.front(), 0);
  EXPECT_LT(values.back(), n);
  EXPECT_GT(values.back(), n / 2);
}

TEST(Permutation, DependsOnSeedAndEpochOnly) {
  EXPECT_EQ(order_of(1000, {1, 0, 0}), order_of(1000, {1, 0, 0}));
  EXPECT_NE(order_of(1000, {1, 0, 0}), order_of(1000, {2, 0, 0}));
  EXPECT_NE(order_of(1000, {1, 0, 0}), order_of(1000, {1, 0, 1}));
  EXPECT_NE(order_of(1000, {1, 0, 0}), order_of(1000, {1, 1, 0}));
  std::vector<int64_t> sorted(1000);
  std::iota(sorted.begin(), sorted.end(), 0);
  EXPECT_NE(order_of(1000, {1, 0, 0}), sorted);
}

// Every value is about equally likely at every place, over many epochs (chi-square, 16 x 15 degrees of freedom up to
// dependence: mean about 225, standard deviation about 21).
TEST(Permutation, IsUniform) {
  constexpr int kN = 16, kEpochs = 20000;
  std::vector<int> counts(kN * kN);
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const Permutation permutation(kN, {5, 0, static_cast<uint32_t>(epoch)});
    for (int i = 0; i < kN; ++i) ++counts[i * kN + permutation(i)];
  }
  double chi_square = 0;
  const double expected = static_cast<double>(kEpochs) / kN;
  for (const int count : counts) chi_square += (count - expected) * (count - expected) / expected;
  EXPECT_GT(chi_square, 225 - 5 * 21);
  EXPECT_LT(chi_square, 225 + 5 * 21);
}

// Neighbours in a shuffled order are uncorrelated: |r| < 5 / sqrt(n).
TEST(Permutation, NeighboursAreUncorrelated) {
  const std::vector<int64_t> order = order_of(50000, {3, 0, 0});
  const double mean = (50000 - 1) / 2.0, variance = (50000.0 * 50000.0 - 1) / 12;
  for (const int lag : {1, 2, 7}) {
    double sum = 0;
    for (size_t i = 0; i + lag < order.size(); ++i) sum += (order[i] - mean) * (order[i + lag] - mean);
    EXPECT_LT(std::fabs(sum / (50000 - lag) / variance), 5 / std::sqrt(50000.0)) << lag;
  }
}

TEST(Permutation, RefusesIndicesOutside) {
  EXPECT_THROW(Permutation(3, {})(3), Error);
  EXPECT_THROW(Permutation(3, {})(-1), Error);
  EXPECT_THROW(Permutation(0, {})(0), Error);
  EXPECT_THROW(Permutation(-1, {}), Error);
}

TEST(Mixture, StaysWithinOneSampleOfItsShares) {
  const std::vector<double> weights = {7, 2, 0.5, 0.5};
  Mixture mixture(weights);
  for (int64_t i = 1; i <= 20000; ++i) {
    mixture.next();
    ASSERT_EQ(mixture.total(), i);
    for (size_t s = 0; s < weights.size(); ++s) {
      ASSERT_LT(std::fabs(static_cast<double>(mixture.counts()[s]) - weights[s] / 10 * static_cast<double>(i)), 1.0)
          << "source " << s << " after " << i;
    }
  }
  EXPECT_EQ(mixture.counts(), (std::vector<int64_t>{14000, 4000, 1000, 1000}));
}

TEST(Mixture, ContinuesFromItsCounters) {
  Mixture first({0.3, 0.6, 0.1});
  for (int i = 0; i < 777; ++i) first.next();
  Mixture second({0.3, 0.6, 0.1});
  second.restore(first.counts());
  for (int i = 0; i < 777; ++i) ASSERT_EQ(first.next(), second.next());
}

// What a source should have given is the integral of its share, which moves on a line.
TEST(Mixture, SharesMoveFromTheirFirstToTheirLastWeights) {
  constexpr int64_t kMoving = 1000;
  Mixture mixture({3, 1}, {1, 4}, kMoving);
  double due = 0;
  std::vector<int64_t> middle;
  for (int64_t i = 1; i <= 3000; ++i) {
    const double x = std::min(1.0, (static_cast<double>(i) - 0.5) / kMoving);
    due += 0.75 + x * (0.2 - 0.75);
    mixture.next();
    ASSERT_LT(std::fabs(static_cast<double>(mixture.counts()[0]) - due), 1.0) << i;
    if (i == 1500) middle = mixture.counts();
  }
  Mixture resumed({3, 1}, {1, 4}, kMoving);
  resumed.restore(middle);
  for (int i = 0; i < 1500; ++i) resumed.next();
  EXPECT_EQ(resumed.counts(), mixture.counts());
}

TEST(Mixture, RefusesCountersThatLeaveNoRoomToGoOn) {
  for (const std::vector<int64_t>& counts : {std::vector<int64_t>{INT64_MAX, 0}, {INT64_MAX, 1}, {-1, 2}}) {
    Mixture mixture({1, 1});
    EXPECT_THROW(mixture.restore(counts), Error) << counts[0];
  }
}

TEST(Mixture, RefusesBadWeights) {
  EXPECT_THROW(Mixture({}), UsageError);
  EXPECT_THROW(Mixture({1, 0}), UsageError);
  EXPECT_THROW(Mixture({1, -1}), UsageError);
  EXPECT_THROW(Mixture({std::nan("")}), UsageError);
  EXPECT_THROW(Mixture({1, 2}).restore({1}), Error);
}

}  // namespace
}  // namespace ondol
