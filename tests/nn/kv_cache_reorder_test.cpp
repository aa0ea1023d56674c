// Reordering of the cached sequences, as beams need it.
#include <random>

#include <gtest/gtest.h>

#include <ondol/nn/kv_cache.h>

namespace ondol {
namespace {

/// A cache whose sequence b has lengths[b] positions that name sequence and position.
KvCache filled(const std::vector<int32_t>& lengths) {
  const int64_t batch = static_cast<int64_t>(lengths.size());
  KvCache cache({.layers = 2, .batch = batch, .capacity = 8, .kv_heads = 2, .head_dim = 4}, DType::f32, {});
  cache.begin_step(lengths);
  for (int64_t layer = 0; layer < 2; ++layer) {
    std::vector<float> keys;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t < 8; ++t) {
        for (int64_t i = 0; i < 8; ++i) keys.push_back(static_cast<float>(1000 * layer + 100 * b + 10 * t + i));
      }
    }
    const Tensor k = Tensor::from_vector(keys, {batch, 8, 2, 4});
    const Tensor v = Tensor::from_vector(keys, {batch, 8, 2, 4});
    v.fill(0.5);
    for (int64_t b = 0; b < batch; ++b) v.select(0, b).fill(static_cast<double>(b));
    cache.append(layer, k, v);
  }
  cache.end_step();
  return cache;
}

void expect_reordered(const std::vector<int32_t>& lengths, const std::vector<int32_t>& sources) {
  const KvCache before = filled(lengths);
  KvCache cache = filled(lengths);
  cache.reorder(sources);
  for (size_t b = 0; b < sources.size(); ++b) {
    const int32_t source = sources[b], length = lengths[static_cast<size_t>(source)];
    EXPECT_EQ(cache.lengths()[b], length);
    for (int64_t layer = 0; layer < 2; ++layer) {
      const auto row = [&](const Tensor& t, int64_t at) {
        return t.select(0, at).narrow(0, 0, length).to_vector<float>();
      };
      EXPECT_EQ(row(cache.keys(layer), static_cast<int64_t>(b)), row(before.keys(layer), source)) << b;
      EXPECT_EQ(row(cache.values(layer), static_cast<int64_t>(b)), row(before.values(layer), source)) << b;
    }
  }
}

TEST(KvCacheReorder, TakesEveryArrangement) {
  expect_reordered({3, 5, 2, 8}, {0, 1, 2, 3});
  expect_reordered({3, 5, 2, 8}, {0, 0, 0, 0});
  expect_reordered({3, 5, 2, 8}, {1, 0, 3, 2});  // two cycles
  expect_reordered({3, 5, 2, 8}, {1, 2, 3, 0});
  expect_reordered({3, 5, 2, 8}, {1, 0, 0, 1});  // a cycle whose rows are wanted elsewhere, too
  expect_reordered({4}, {0});
  std::mt19937 random(9);
  for (int trial = 0; trial < 200; ++trial) {
    const size_t batch = 1 + random() % 7;
    std::vector<int32_t> lengths, sources;
    for (size_t b = 0; b < batch; ++b) {
      lengths.push_back(static_cast<int32_t>(random() % 9));
      sources.push_back(static_cast<int32_t>(random() % batch));
    }
    expect_reordered(lengths, sources);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace ondol
