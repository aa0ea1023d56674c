// The KV cache: what is stored where, for sequences of different lengths, and what it refuses.
#include <ondol/nn/kv_cache.h>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

namespace ondol {
namespace {

constexpr int64_t kHeads = 2, kDim = 3;

/// A value that names its place: step, sequence, position within the step, head, element; values are negative keys.
float code(int step, int64_t b, int64_t t, int64_t h, int64_t d) {
  return static_cast<float>(10000 * step + 1000 * b + 100 * t + 10 * h + d);
}

Tensor step_keys(int step, int64_t batch, int64_t length, float sign) {
  std::vector<float> values;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        for (int64_t d = 0; d < kDim; ++d) values.push_back(sign * code(step, b, t, h, d));
      }
    }
  }
  return Tensor::from_vector(values, {batch, length, kHeads, kDim});
}

KvCache make_cache(int64_t batch, int64_t capacity, int64_t layers = 2) {
  return KvCache({.layers = layers, .batch = batch, .capacity = capacity, .kv_heads = kHeads, .head_dim = kDim},
                 DType::f32, Device{});
}

void append_step(KvCache& cache, int step, const std::vector<int32_t>& counts, int64_t length) {
  cache.begin_step(counts);
  const auto batch = static_cast<int64_t>(counts.size());
  for (int64_t layer = 0; layer < cache.sizes().layers; ++layer) {
    const int numbered = 10 * static_cast<int>(layer) + step;
    cache.append(layer, step_keys(numbered, batch, length, 1.0f), step_keys(numbered, batch, length, -1.0f));
  }
  cache.end_step();
}

/// The token at one position of a sequence of one layer, keys and values alike.
void expect_token(const KvCache& cache, int64_t layer, int64_t b, int64_t position, int step, int64_t source_b,
                  int64_t t) {
  for (const float sign : {1.0f, -1.0f}) {
    const Tensor& stored = sign > 0 ? cache.keys(layer) : cache.values(layer);
    const std::vector<float> token = stored.select(0, b).select(0, position).to_vector<float>();
    for (int64_t h = 0; h < kHeads; ++h) {
      for (int64_t d = 0; d < kDim; ++d) {
        EXPECT_EQ(token[static_cast<size_t>(h * kDim + d)],
                  sign * code(10 * static_cast<int>(layer) + step, source_b, t, h, d))
            << "layer " << layer << ", sequence " << b << ", position " << position;
      }
    }
  }
}

TEST(KvCache, StartsEmptyWithTheSizesAskedFor) {
  const KvCache cache = make_cache(2, 5, 3);
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{0, 0}));
  EXPECT_EQ(cache.keys(2).shape(), (Shape{2, 5, kHeads, kDim}));
  EXPECT_EQ(cache.values(0).shape(), (Shape{2, 5, kHeads, kDim}));
}

TEST(KvCache, AppendsRaggedSteps) {
  KvCache cache = make_cache(3, 6);
  cache.begin_step({3, 1, 0});
  EXPECT_EQ(cache.query_starts().to_vector<int32_t>(), (std::vector<int32_t>{0, 0, 0}));
  EXPECT_EQ(cache.kv_lengths().to_vector<int32_t>(), (std::vector<int32_t>{3, 1, 0}));
  EXPECT_EQ(cache.max_length(), 3);
  append_step(cache, 1, {3, 1, 0}, 3);
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{3, 1, 0}));
  append_step(cache, 2, {1, 2, 2}, 2);
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{4, 3, 2}));
  for (const int64_t layer : {0, 1}) {
    for (int64_t t = 0; t < 3; ++t) expect_token(cache, layer, 0, t, 1, 0, t);
    expect_token(cache, layer, 0, 3, 2, 0, 0);
    expect_token(cache, layer, 1, 0, 1, 1, 0);
    for (int64_t t = 0; t < 2; ++t) {
      expect_token(cache, layer, 1, 1 + t, 2, 1, t);
      expect_token(cache, layer, 2, t, 2, 2, t);
    }
  }
}

TEST(KvCache, PositionsContinueEachSequenceAndStayInside) {
  KvCache cache = make_cache(2, 4);
  append_step(cache, 1, {3, 1}, 3);
  cache.begin_step({1, 2});
  EXPECT_EQ(cache.positions().to_vector<int32_t>(), (std::vector<int32_t>{3, 3, 1, 2}));
  EXPECT_EQ(cache.query_starts().to_vector<int32_t>(), (std::vector<int32_t>{3, 1}));
  EXPECT_EQ(cache.kv_lengths().to_vector<int32_t>(), (std::vector<int32_t>{4, 3}));
}

TEST(KvCache, ReordersSequences) {
  KvCache cache = make_cache(3, 4);
  append_step(cache, 1, {2, 3, 1}, 3);
  cache.reorder({1, 1, 0});
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{3, 3, 2}));
  for (const int64_t layer : {0, 1}) {
    for (int64_t t = 0; t < 3; ++t) {
      expect_token(cache, layer, 0, t, 1, 1, t);
      expect_token(cache, layer, 1, t, 1, 1, t);
    }
    for (int64_t t = 0; t < 2; ++t) expect_token(cache, layer, 2, t, 1, 0, t);
  }
  append_step(cache, 2, {1, 1, 1}, 1);
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{4, 4, 3}));
  expect_token(cache, 1, 2, 2, 2, 2, 0);
}

TEST(KvCache, TruncatesAndGrowsAgain) {
  KvCache cache = make_cache(2, 4);
  append_step(cache, 1, {3, 2}, 3);
  cache.truncate(0, 1);
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{1, 2}));
  append_step(cache, 2, {2, 0}, 2);
  expect_token(cache, 0, 0, 0, 1, 0, 0);
  expect_token(cache, 0, 0, 1, 2, 0, 0);
  expect_token(cache, 0, 1, 1, 1, 1, 1);
}

TEST(KvCache, RefusesWhatDoesNotFitAndStaysAsItWas) {
  KvCache cache = make_cache(2, 4);
  append_step(cache, 1, {3, 1}, 3);
  for (const std::vector<int32_t>& counts :
       std::vector<std::vector<int32_t>>{{2, 0}, {0, 4}, {-1, 1}, {INT32_MAX, 0}, {1}, {1, 1, 1}}) {
    EXPECT_THROW(cache.begin_step(counts), Error);
  }
  EXPECT_THROW(cache.reorder({0}), Error);
  EXPECT_THROW(cache.reorder({0, 2}), Error);
  EXPECT_THROW(cache.reorder({-1, 0}), Error);
  EXPECT_THROW(cache.truncate(0, 4), Error);
  EXPECT_THROW(cache.truncate(0, -1), Error);
  EXPECT_THROW(cache.truncate(2, 0), Error);
  EXPECT_THROW(cache.truncate(-1, 0), Error);
  EXPECT_THROW(cache.append(2, step_keys(1, 2, 1, 1.0f), step_keys(1, 2, 1, 1.0f)), Error);
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{3, 1}));
  try {
    cache.begin_step({2, 0});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("holds 4"), std::string::npos) << error.what();
  }
  append_step(cache, 2, {1, 3}, 3);
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{4, 4}));
}

TEST(KvCache, ConvertsToItsDType) {
  KvCache cache({.layers = 1, .batch = 1, .capacity = 2, .kv_heads = 1, .head_dim = 2}, DType::bf16, Device{});
  cache.begin_step({1});
  const Tensor row = Tensor::from_vector<float>({1.0f, 1.0f + 1.0f / 1024}, {1, 1, 1, 2});
  cache.append(0, row, row);
  cache.end_step();
  EXPECT_EQ(cache.keys(0).narrow(1, 0, 1).to_vector<float>(), (std::vector<float>{1.0f, 1.0f}));
}

}  // namespace
}  // namespace ondol
