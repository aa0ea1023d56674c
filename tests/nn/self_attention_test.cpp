// Self-attention on a fused projection, against the definition in double precision; with a cache the same values come
// out token by token.
#include <cmath>

#include <ondol/base/philox.h>
#include <ondol/nn/self_attention.h>

#include <gtest/gtest.h>

namespace ondol {
namespace {

constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 8, kRow = (kHeads + 2 * kKvHeads) * kDim;
constexpr double kTheta = 100.0;

std::vector<float> random_qkv(int64_t batch, int64_t length) {
  std::vector<float> values(static_cast<size_t>(batch * length * kRow));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(philox_normal({5, 1, 0}, i));
  return values;
}

/// One head's vector at a position, rotated when it is a query or key: pairs (i, i + D/2) by position / theta^(2i/D).
std::vector<double> head_vector(const std::vector<float>& qkv, int64_t row, int64_t head, int64_t position,
                                bool rotated) {
  const float* at = qkv.data() + row * kRow + head * kDim;
  std::vector<double> out(at, at + kDim);
  if (!rotated) return out;
  for (int64_t i = 0; i < kDim / 2; ++i) {
    const double angle = static_cast<double>(position) * std::pow(kTheta, -2.0 * static_cast<double>(i) / kDim);
    const double a = at[i], b = at[i + kDim / 2];
    out[static_cast<size_t>(i)] = a * std::cos(angle) - b * std::sin(angle);
    out[static_cast<size_t>(i + kDim / 2)] = b * std::cos(angle) + a * std::sin(angle);
  }
  return out;
}

/// Causal attention with grouped queries by its definition: (B, T, H D).
std::vector<double> oracle(const std::vector<float>& qkv, int64_t batch, int64_t length, bool rope) {
  std::vector<double> out;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t h = 0; h < kHeads; ++h) {
        const std::vector<double> query = head_vector(qkv, b * length + t, h, t, rope);
        const int64_t kv = h / (kHeads / kKvHeads);
        std::vector<double> scores, sums(static_cast<size_t>(kDim), 0.0);
        double total = 0.0;
        for (int64_t s = 0; s <= t; ++s) {
          const std::vector<double> key = head_vector(qkv, b * length + s, kHeads + kv, s, rope);
          double dot = 0.0;
          for (size_t d = 0; d < key.size(); ++d) dot += query[d] * key[d];
          scores.push_back(std::exp(dot / std::sqrt(static_cast<double>(kDim))));
          total += scores.back();
        }
        for (int64_t s = 0; s <= t; ++s) {
          const std::vector<double> value = head_vector(qkv, b * length + s, kHeads + kKvHeads + kv, s, false);
          for (size_t d = 0; d < value.size(); ++d) sums[d] += scores[static_cast<size_t>(s)] / total * value[d];
        }
        out.insert(out.end(), sums.begin(), sums.end());
      }
    }
  }
  return out;
}

void expect_close(const std::vector<float>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 5e-6) << i;
}

SelfAttentionSettings settings(const RopeTable* rope) {
  return {.num_heads = kHeads, .num_kv_heads = kKvHeads, .head_dim = kDim, .rope = rope, .causal = true};
}

class SelfAttention : public ::testing::TestWithParam<bool> {
 protected:
  const RopeTable table_ = ops::make_rope_table({.head_dim = kDim, .theta = kTheta, .max_positions = 32}, Device{});
  const RopeTable* rope_ = GetParam() ? &table_ : nullptr;
};

TEST_P(SelfAttention, AgreesWithItsDefinition) {
  const std::vector<float> qkv = random_qkv(2, 7);
  const Variable out =
      self_attention(Variable(Tensor::from_vector(qkv, {2, 7, kRow})), 0, settings(rope_), {}, nullptr);
  EXPECT_EQ(out.shape(), (Shape{2, 7, kHeads * kDim}));
  expect_close(out.value().to_vector<float>(), oracle(qkv, 2, 7, GetParam()));
}

TEST_P(SelfAttention, GivesTheSameThroughACacheInRaggedSteps) {
  const int64_t length = 9;
  const std::vector<float> qkv = random_qkv(2, length);
  const Tensor all = Tensor::from_vector(qkv, {2, length, kRow});
  const std::vector<double> expected = oracle(qkv, 2, length, GetParam());
  KvCache cache({.layers = 2, .batch = 2, .capacity = 12, .kv_heads = kKvHeads, .head_dim = kDim}, DType::f32,
                Device{});
  for (const std::vector<int32_t>& counts : std::vector<std::vector<int32_t>>{{4, 2}, {1, 1}, {0, 3}, {3, 1}, {1, 2}}) {
    const std::vector<int32_t> starts = cache.lengths();
    const int64_t step = std::max(counts[0], counts[1]);
    const Tensor fed = Tensor::full({2, step, kRow}, 1e3);  // what stands behind a row's own tokens must not matter
    for (int64_t b = 0; b < 2; ++b) {
      const int64_t own = counts[static_cast<size_t>(b)];
      if (own == 0) continue;
      fed.select(0, b).narrow(0, 0, own).copy_from(all.select(0, b).narrow(0, starts[static_cast<size_t>(b)], own));
    }
    cache.begin_step(counts);
    const Variable out = self_attention(Variable(fed.clone()), 1, settings(rope_), {}, &cache);
    cache.end_step();
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t t = 0; t < counts[static_cast<size_t>(b)]; ++t) {
        const int64_t at = (b * length + starts[static_cast<size_t>(b)] + t) * kHeads * kDim;
        expect_close(out.value().select(0, b).select(0, t).to_vector<float>(),
                     {expected.begin() + at, expected.begin() + at + kHeads * kDim});
      }
    }
  }
  EXPECT_EQ(cache.lengths(), (std::vector<int32_t>{9, 9}));
}

INSTANTIATE_TEST_SUITE_P(Rope, SelfAttention, ::testing::Bool(),
                         [](const auto& tested) { return tested.param ? "Rotated" : "Plain"; });

}  // namespace
}  // namespace ondol
