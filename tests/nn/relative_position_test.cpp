// Buckets of distances against those of transformers (T5Attention), and biases by distance in cached attention against
// attention without a cache.
#include <algorithm>
#include <cmath>

#include <ondol/base/philox.h>
#include <ondol/nn/cross_attention.h>
#include <ondol/nn/relative_position.h>
#include <ondol/nn/self_attention.h>

#include <gtest/gtest.h>

namespace ondol {
namespace {

struct Step {
  int64_t from;  // the bucket of this distance and those behind it
  int32_t bucket;
};

void expect_buckets(const RelativeBuckets& settings, const std::vector<Step>& steps) {
  size_t at = 0;
  for (int64_t distance = -140; distance <= 140; ++distance) {
    if (at + 1 < steps.size() && steps[at + 1].from == distance) ++at;
    EXPECT_EQ(relative_position_bucket(distance, settings), steps[at].bucket) << distance;
  }
  ASSERT_EQ(at + 1, steps.size());
}

TEST(RelativePosition, BucketsAreThoseOfTheReference) {
  expect_buckets(
      {.bidirectional = true, .num_buckets = 32, .max_distance = 128},
      {{-140, 15}, {-90, 14}, {-63, 13}, {-45, 12}, {-31, 11}, {-22, 10}, {-15, 9}, {-11, 8}, {-7, 7}, {-6, 6}, {-5, 5},
       {-4, 4},    {-3, 3},   {-2, 2},   {-1, 1},   {0, 0},    {1, 17},   {2, 18},  {3, 19},  {4, 20}, {5, 21}, {6, 22},
       {7, 23},    {8, 24},   {12, 25},  {16, 26},  {23, 27},  {32, 28},  {46, 29}, {64, 30}, {91, 31}});
  expect_buckets({.bidirectional = false, .num_buckets = 32, .max_distance = 128},
                 {{-140, 31}, {-112, 30}, {-98, 29}, {-86, 28}, {-76, 27}, {-66, 26}, {-58, 25}, {-51, 24},
                  {-45, 23},  {-39, 22},  {-34, 21}, {-30, 20}, {-26, 19}, {-23, 18}, {-20, 17}, {-18, 16},
                  {-15, 15},  {-14, 14},  {-13, 13}, {-12, 12}, {-11, 11}, {-10, 10}, {-9, 9},   {-8, 8},
                  {-7, 7},    {-6, 6},    {-5, 5},   {-4, 4},   {-3, 3},   {-2, 2},   {-1, 1},   {0, 0}});
  expect_buckets({.bidirectional = true, .num_buckets = 8, .max_distance = 20},
                 {{-140, 3}, {-6, 2}, {-1, 1}, {0, 0}, {1, 5}, {2, 6}, {7, 7}});
  expect_buckets({.bidirectional = false, .num_buckets = 8, .max_distance = 20},
                 {{-140, 7}, {-13, 6}, {-8, 5}, {-5, 4}, {-3, 3}, {-2, 2}, {-1, 1}, {0, 0}});
}

TEST(RelativePosition, RowsKeepTheirPlace) {
  RelativePositions positions({.bidirectional = true, .num_buckets = 8, .max_distance = 20});
  const RelativePositions::Row near = positions.row(3, 2, {});
  EXPECT_EQ(near.origin, 3);
  EXPECT_EQ(near.buckets.to_vector<int32_t>(), (std::vector<int32_t>{2, 2, 1, 0, 5, 6}));
  const RelativePositions::Row far = positions.row(1000, 0, {});
  EXPECT_EQ(far.buckets.numel(), 1001);
  EXPECT_EQ(far.buckets.to_vector<int32_t>().back(), 0);
  EXPECT_EQ(positions.row(0, 0, {}).buckets.to_vector<int32_t>(), std::vector<int32_t>{0});
  EXPECT_EQ(near.buckets.to_vector<int32_t>(), (std::vector<int32_t>{2, 2, 1, 0, 5, 6}));
}

Tensor random_tensor(const Shape& shape, uint32_t stream) {
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(philox_normal({3, stream, 0}, i));
  return Tensor::from_vector(values, shape);
}

constexpr int64_t kHeads = 2, kDim = 8, kWidth = kHeads * kDim;

SelfAttentionSettings settings() {
  SelfAttentionSettings settings;
  settings.num_heads = settings.num_kv_heads = kHeads;
  settings.head_dim = kDim;
  settings.scale = 1.0f;
  return settings;
}

void expect_near(const Tensor& actual, const Tensor& expected) {
  const std::vector<float> a = actual.to_vector<float>(), b = expected.to_vector<float>();
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5) << i;
}

/// Rows of 5 and 2 tokens first, then one token each: what a row gets does not depend on padding or the other row.
TEST(RelativePosition, CachedStepsSeeTheSameBiases) {
  constexpr int64_t kLength = 9;
  RelativePositions positions({.bidirectional = false, .num_buckets = 8, .max_distance = 20});
  const Variable table(random_tensor({8, kHeads}, 1));
  const Tensor qkv = random_tensor({2, kLength, 3 * kWidth}, 2);
  const auto bias_of = [&](int64_t before, int64_t after) {
    const RelativePositions::Row row = positions.row(before, after, {});
    return RelativeBias{functions::relative_bias(table, row.buckets), row.origin};
  };
  SelfAttentionInput whole_input;
  whole_input.bias = bias_of(kLength - 1, kLength - 1);
  const Tensor whole = self_attention(Variable(qkv.clone()), 0, settings(), whole_input, nullptr).value();

  KvCache cache({1, 2, kLength, kHeads, kDim}, DType::f32, {});
  std::vector<int32_t> lengths = {0, 0};
  const auto step = [&](const std::vector<int32_t>& counts) {
    const int64_t length = std::max(counts[0], counts[1]);
    const Tensor part = Tensor::zeros({2, length, 3 * kWidth});
    for (int64_t b = 0; b < 2; ++b) {
      const int32_t count = counts[static_cast<size_t>(b)], start = lengths[static_cast<size_t>(b)];
      part.select(0, b).narrow(0, 0, count).copy_from(qkv.select(0, b).narrow(0, start, count));
    }
    cache.begin_step(counts);
    SelfAttentionInput input;
    input.bias = bias_of(cache.reach() + length, cache.reach() - 1);
    const Tensor out = self_attention(Variable(part), 0, settings(), input, &cache).value();
    cache.end_step();
    for (int64_t b = 0; b < 2; ++b) {
      const int32_t count = counts[static_cast<size_t>(b)];
      int32_t& start = lengths[static_cast<size_t>(b)];
      expect_near(out.select(0, b).narrow(0, 0, count), whole.select(0, b).narrow(0, start, count));
      start += count;
    }
  };
  step({5, 2});
  for (int i = 0; i < 4; ++i) step({1, 1});
  step({0, 3});
}

/// Rows of one source read it together, and see no padding.
TEST(CrossAttention, FromTheCacheIsTheSame) {
  constexpr int64_t kSources = 2, kBeams = 3, kLength = 7;
  const Tensor kv = random_tensor({kSources, kLength, 2 * kWidth}, 4);
  const std::vector<int32_t> lengths = {4, 7};
  for (const int64_t queries : {1, 2}) {
    const Tensor q = random_tensor({kSources * kBeams, queries, kWidth}, 5);
    KvCache cache({1, kSources * kBeams, 4, kHeads, kDim}, DType::f32, {});
    cache.set_source({{kv}, Tensor::from_vector(lengths, {kSources})});
    const Tensor together = cross_attention(Variable(q), 0, settings(), cache).value();
    for (int64_t row = 0; row < kSources * kBeams; ++row) {
      const int64_t source = row / kBeams;
      const Tensor shown = kv.narrow(0, source, 1).narrow(1, 0, lengths[static_cast<size_t>(source)]).contiguous();
      const Tensor alone = cross_attention(Variable(q.narrow(0, row, 1)), Variable(shown), settings(), {}).value();
      expect_near(together.narrow(0, row, 1), alone);
    }
  }
}

}  // namespace
}  // namespace ondol
