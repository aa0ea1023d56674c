// The form of attention for compute capability 9.0, in emulation, against attention written out in double precision.
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/attention_oracle.h"
#include "support/cuda_emulation/emulated_cuda.h"
#include "support/cuda_emulation/row_test.h"

namespace ondol {

namespace cuda_emulated {
bool attention_hopper(const AttentionArgs& args, Stream stream);
}  // namespace cuda_emulated

namespace {

/// Where the elements of a tensor (B, T, H, D) lie.
struct Layout {
  int64_t stride_b, stride_t, stride_h, size;
  int64_t at(int64_t b, int64_t t, int64_t h, int64_t d) const {
    return b * stride_b + t * stride_t + h * stride_h + d;
  }
};
Layout tokens_first(int64_t batch, int64_t length, int64_t heads, int64_t dim, int64_t padding) {
  const int64_t stride_t = heads * dim + padding;
  return {length * stride_t, stride_t, dim, batch * length * stride_t};
}
Layout heads_first(int64_t batch, int64_t length, int64_t heads, int64_t dim, int64_t padding) {
  const int64_t stride_t = dim + padding;
  return {heads * length * stride_t, stride_t, length * stride_t, batch * heads * length * stride_t};
}

/// Random values where the tensor has elements, NaN between them and where `hidden` says so.
struct Tensor {
  Layout layout;
  std::vector<double> values;  // (B, T, H, D) contiguous
  std::vector<bfloat16> stored;

  Tensor(const Layout& where, int64_t batch, int64_t length, int64_t heads, int64_t dim, uint64_t seed,
         const std::function<bool(int64_t b, int64_t t)>& hidden)
      : layout(where) {
    bfloat16 nan;
    nan.bits = 0x7fff;
    stored.assign(static_cast<size_t>(where.size), nan);
    const auto random = row_test::random_values<bfloat16>(static_cast<size_t>(batch * length * heads * dim), seed);
    size_t n = 0;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t t = 0; t < length; ++t) {
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t d = 0; d < dim; ++d, ++n) {
            values.push_back(row_test::value_of(random[n]));
            if (!hidden(b, t)) stored[static_cast<size_t>(where.at(b, t, h, d))] = random[n];
          }
        }
      }
    }
  }
};

struct Outcome {
  std::vector<bfloat16> out;
  std::vector<float> lse;
};

class HopperRun {
 public:
  explicit HopperRun(const AttentionCase& test, bool cache = false)
      : c(test),
        q(tokens_first(c.batch, c.q_len, c.num_heads, c.head_dim, 16), c.batch, c.q_len, c.num_heads, c.head_dim, 1,
          [](int64_t, int64_t) { return false; }),
        k(layout_of_keys(cache), c.batch, c.kv_len, c.num_kv_heads, c.head_dim, 2, hidden()),
        v(layout_of_keys(cache), c.batch, c.kv_len, c.num_kv_heads, c.head_dim, 3, hidden()),
        out_layout(tokens_first(c.batch, c.q_len, c.num_heads, c.head_dim, 0)) {
    AttentionOracle::run(c, {q.values, k.values, v.values, {}}, expected);
  }

  Outcome run() const {
    EmulatedArray<bfloat16> q_data(q.stored), k_data(k.stored), v_data(v.stored),
        out(static_cast<size_t>(out_layout.size));
    EmulatedArray<float> lse(static_cast<size_t>(c.batch * c.num_heads * c.q_len));
    const EmulatedArray<int32_t> starts(c.q_start), lengths(c.kv_lengths), documents(c.q_documents),
        key_documents(c.kv_documents);
    const EmulatedArray<uint8_t> mask(c.key_mask);
    const auto pointer = [](const auto& array, const auto& values) { return values.empty() ? nullptr : array.data(); };
    AttentionArgs a{};
    a.q = q_data.data(), a.k = k_data.data(), a.v = v_data.data(), a.out = out.data(), a.lse = lse.data();
    a.batch = c.batch, a.q_len = c.q_len, a.kv_len = c.kv_len;
    a.num_heads = c.num_heads, a.num_kv_heads = c.num_kv_heads, a.head_dim = c.head_dim;
    a.q_stride_b = q.layout.stride_b, a.q_stride_t = q.layout.stride_t, a.q_stride_h = q.layout.stride_h;
    a.k_stride_b = k.layout.stride_b, a.k_stride_t = k.layout.stride_t, a.k_stride_h = k.layout.stride_h;
    a.v_stride_b = v.layout.stride_b, a.v_stride_t = v.layout.stride_t, a.v_stride_h = v.layout.stride_h;
    a.out_stride_b = out_layout.stride_b, a.out_stride_t = out_layout.stride_t, a.out_stride_h = out_layout.stride_h;
    a.scale = static_cast<float>(c.scale());
    a.causal = c.causal, a.window = c.window;
    a.q_start = pointer(starts, c.q_start), a.kv_lengths = pointer(lengths, c.kv_lengths);
    a.key_mask = pointer(mask, c.key_mask);
    a.q_documents = pointer(documents, c.q_documents), a.kv_documents = pointer(key_documents, c.kv_documents);
    EXPECT_TRUE(cuda_emulated::attention_hopper(a, nullptr)) << "not taken";
    return {out.host(), lse.host()};
  }

  /// Weights are rounded to bf16 before they meet the values.
  void check(const Outcome& got, const std::string& what) const {
    const auto rounded = [](double x) {
      return static_cast<double>(static_cast<float>(bfloat16(static_cast<float>(x))));
    };
    double worst = 0, worst_lse = 0;
    for (size_t i = 0; i < got.out.size(); ++i) {
      const double error = std::fabs(row_test::value_of(got.out[i]) - rounded(expected.out[i]));
      worst = std::isnan(error) ? INFINITY : std::fmax(worst, error / (1 + std::fabs(expected.out[i])));
    }
    for (size_t i = 0; i < got.lse.size(); ++i) {
      const double e = expected.lse[i], error = std::isinf(e) ? (got.lse[i] == e ? 0.0 : INFINITY) : got.lse[i] - e;
      worst_lse = std::isnan(error) ? INFINITY : std::fmax(worst_lse, std::fabs(error));
    }
    EXPECT_LE(worst, 0.01) << what;
    EXPECT_LE(worst_lse, 2e-5) << what;
  }

  const AttentionCase c;
  const Tensor q, k, v;
  const Layout out_layout;
  AttentionOracle expected;

 private:
  Layout layout_of_keys(bool cache) const {
    return cache ? heads_first(c.batch, c.kv_len, c.num_kv_heads, c.head_dim, 8)
                 : tokens_first(c.batch, c.kv_len, c.num_kv_heads, c.head_dim, 8);
  }
  /// Memory behind the length of a sequence may hold anything.
  std::function<bool(int64_t, int64_t)> hidden() const {
    return [this](int64_t b, int64_t t) { return !c.kv_lengths.empty() && t >= c.kv_lengths[static_cast<size_t>(b)]; };
  }
};

struct NamedCase {
  std::string name;
  AttentionCase c;
};

std::vector<NamedCase> cases() {
  std::vector<NamedCase> list;
  const auto add = [&list](const std::string& name, const std::function<void(AttentionCase&)>& change) {
    for (const int64_t head_dim : {64, 128}) {
      AttentionCase c;
      c.batch = 2, c.q_len = c.kv_len = 130, c.num_heads = 2, c.num_kv_heads = 1, c.head_dim = head_dim;
      change(c);
      list.push_back({name + " D=" + std::to_string(head_dim), c});
    }
  };
  const auto documents = [](AttentionCase& c) {
    for (int64_t i = 0; i < c.batch * c.q_len; ++i) c.q_documents.push_back(static_cast<int32_t>(i / 57));
  };
  add("full", [](AttentionCase&) {});
  add("causal", [](AttentionCase& c) { c.causal = true; });
  add("one tile", [](AttentionCase& c) { c.causal = true, c.q_len = c.kv_len = 64; });
  add("one key", [](AttentionCase& c) { c.kv_len = 1; });
  add("a key in the last tile", [](AttentionCase& c) { c.kv_len = 257; });
  add("a head each", [](AttentionCase& c) { c.causal = true, c.num_kv_heads = 2; });
  add("groups of three", [](AttentionCase& c) { c.causal = true, c.num_heads = 6, c.num_kv_heads = 2, c.batch = 1; });
  add("many tiles", [](AttentionCase& c) { c.batch = 1, c.num_heads = 1, c.q_len = 65, c.kv_len = 1100; });
  add("many causal tiles",
      [](AttentionCase& c) { c.batch = 1, c.num_heads = 1, c.causal = true, c.q_len = c.kv_len = 700; });
  add("more keys than queries", [](AttentionCase& c) { c.causal = true, c.kv_len += 301; });
  add("more queries than keys", [](AttentionCase& c) { c.causal = true, c.q_len += 200; });
  add("causal window", [](AttentionCase& c) { c.causal = true, c.window = 40, c.q_len = c.kv_len = 400; });
  add("two-sided window", [](AttentionCase& c) { c.window = 70, c.q_len = c.kv_len = 300; });
  add("key mask", [](AttentionCase& c) {
    c.q_len = c.kv_len = 300;
    for (int64_t i = 0; i < c.batch * c.kv_len; ++i) c.key_mask.push_back(i % 300 < 140 ? 0 : i % 5 != 2);
  });
  add("documents", documents);
  add("causal documents", [&](AttentionCase& c) { c.causal = true, c.q_len = c.kv_len = 400, documents(c); });
  add("lengths and starts", [](AttentionCase& c) {
    c.causal = true, c.kv_len = 400;
    c.kv_lengths = {400, 197};
    c.q_start = {270, 60};
  });
  add("lengths", [](AttentionCase& c) { c.kv_len = 300, c.kv_lengths = {257, 100}; });
  add("an empty sequence", [](AttentionCase& c) { c.kv_lengths = {0, 5}; });
  for (const int64_t head_dim : {8, 72, 96}) {
    add("columns behind the last, " + std::to_string(head_dim),
        [&](AttentionCase& c) { c.head_dim = head_dim, c.causal = true; });
  }
  return list;
}

class AttentionHopper : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(emulation::allocated_bytes(), 0u); }
};

TEST_F(AttentionHopper, AgreesWithTheOracle) {
  size_t count = 0;
  for (const NamedCase& test : cases()) {
    const HopperRun run(test.c, count++ % 2 == 1);
    std::vector<Outcome> outcomes;
    for (const uint64_t seed : {1, 20, 300}) {
      emulation::set_seed(seed);
      outcomes.push_back(run.run());
      run.check(outcomes.back(), concat(test.name, ", seed ", seed));
      row_test::expect_same_bytes(outcomes.back().out, outcomes.front().out, test.name);
      row_test::expect_same_bytes(outcomes.back().lse, outcomes.front().lse, test.name);
      if (HasFailure()) return;
    }
  }
  EXPECT_GE(count, 40u);
}

}  // namespace
}  // namespace ondol
