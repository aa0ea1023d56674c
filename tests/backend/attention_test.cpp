#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/parallel.h>
#include <ondol/io/safetensors.h>

#include "backend/attention_oracle.h"
#include "backend/kernel_tables.h"

namespace ondol {
namespace {

/// A tensor (batch, length, heads, head_dim) in the kernel's dtype with padded strides, and its values as doubles.
struct Strided {
  int64_t stride_b, stride_t, stride_h;
  DType dtype;
  std::vector<uint8_t> bytes;

  Strided(int64_t batch, int64_t length, int64_t heads, int64_t head_dim, DType type, bool heads_first) : dtype(type) {
    if (heads_first) {
      stride_t = head_dim + 3, stride_h = length * stride_t + 1, stride_b = heads * stride_h;
    } else {
      stride_h = head_dim, stride_t = heads * head_dim + 5, stride_b = length * stride_t;
    }
    bytes.assign((batch * stride_b + 16) * dtype_size(type), 0);
  }
  double get(int64_t at) const {
    return dtype == DType::f32 ? reinterpret_cast<const float*>(bytes.data())[at]
                               : static_cast<float>(reinterpret_cast<const bfloat16*>(bytes.data())[at]);
  }
  void set(int64_t at, float value) {
    if (dtype == DType::f32) {
      reinterpret_cast<float*>(bytes.data())[at] = value;
    } else {
      reinterpret_cast<bfloat16*>(bytes.data())[at] = bfloat16(value);
    }
  }
  int64_t offset(int64_t b, int64_t t, int64_t h) const { return b * stride_b + t * stride_t + h * stride_h; }
};

struct Shape {
  int64_t batch, length, heads, head_dim;
};

template <class Visit>
void for_each_element(const Shape& s, const Strided& tensor, Visit visit) {
  int64_t index = 0;
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t t = 0; t < s.length; ++t)
      for (int64_t h = 0; h < s.heads; ++h)
        for (int64_t d = 0; d < s.head_dim; ++d) visit(tensor.offset(b, t, h) + d, index++);
}

/// Random values, rounded to the dtype; returns them as the oracle sees them.
std::vector<double> randomize(const Shape& s, Strided& tensor, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<double> values(s.batch * s.length * s.heads * s.head_dim);
  for_each_element(s, tensor, [&](int64_t at, int64_t index) {
    tensor.set(at, normal(random));
    values[index] = tensor.get(at);
  });
  return values;
}

class AttentionRun {
 public:
  AttentionRun(const AttentionCase& test, DType dtype, bool heads_first = false)
      : c(test),
        q_shape{c.batch, c.q_len, c.num_heads, c.head_dim},
        kv_shape{c.batch, c.kv_len, c.num_kv_heads, c.head_dim},
        q(make(q_shape, dtype, heads_first)),
        k(make(kv_shape, dtype, heads_first)),
        v(make(kv_shape, dtype, heads_first)),
        out(make(q_shape, dtype, false)),
        grad_out(out),
        grad_q(q),
        grad_k(k),
        grad_v(v),
        bias(1, 1, 1, (c.bias_per_batch ? c.batch : 1) * c.num_heads * c.q_len * c.kv_len, dtype, false),
        lse(c.batch * c.num_heads * c.q_len),
        workspace(lse.size()),
        grad_bias(c.num_heads * c.q_len * c.kv_len, 9.0f) {
    std::mt19937 random(5);
    in.q = randomize(q_shape, q, random);
    in.k = randomize(kv_shape, k, random);
    in.v = randomize(kv_shape, v, random);
    grad_out_values = randomize(q_shape, grad_out, random);
    const int64_t biases = (c.bias_per_batch ? c.batch : 1) * c.num_heads * c.q_len * c.kv_len;
    in.bias = randomize({1, 1, 1, biases}, bias, random);
  }

  AttentionArgs args() {
    AttentionArgs a{};
    a.q = q.bytes.data(), a.k = k.bytes.data(), a.v = v.bytes.data(), a.out = out.bytes.data();
    a.lse = lse.data();
    a.batch = c.batch, a.q_len = c.q_len, a.kv_len = c.kv_len;
    a.num_heads = c.num_heads, a.num_kv_heads = c.num_kv_heads, a.head_dim = c.head_dim;
    a.q_stride_b = q.stride_b, a.q_stride_t = q.stride_t, a.q_stride_h = q.stride_h;
    a.k_stride_b = k.stride_b, a.k_stride_t = k.stride_t, a.k_stride_h = k.stride_h;
    a.v_stride_b = v.stride_b, a.v_stride_t = v.stride_t, a.v_stride_h = v.stride_h;
    a.out_stride_b = out.stride_b, a.out_stride_t = out.stride_t, a.out_stride_h = out.stride_h;
    a.scale = static_cast<float>(c.scale());
    a.softcap = c.softcap;
    a.causal = c.causal;
    a.window = c.window;
    a.q_start = c.q_start.empty() ? nullptr : c.q_start.data();
    a.prefix_ends = c.prefix_ends.empty() ? nullptr : c.prefix_ends.data();
    a.kv_lengths = c.kv_lengths.empty() ? nullptr : c.kv_lengths.data();
    a.key_mask = c.key_mask.empty() ? nullptr : c.key_mask.data();
    a.q_documents = c.q_documents.empty() ? nullptr : c.q_documents.data();
    a.kv_documents = c.kv_documents.empty() ? nullptr : c.kv_documents.data();
    if (c.bias) {
      a.bias = bias.bytes.data();
      a.bias_stride_k = 1;
      a.bias_stride_q = c.kv_len;
      a.bias_stride_h = c.q_len * c.kv_len;
      a.bias_stride_b = c.bias_per_batch ? c.num_heads * a.bias_stride_h : 0;
    }
    a.dropout_p = c.dropout_p;
    a.rng = {AttentionOracle::kSeed, AttentionOracle::kStream, &step};
    return a;
  }

  void forward(const KernelTable& table) { table.attention.get(q.dtype)(args(), nullptr); }

  void backward(const KernelTable& table, bool with_bias) {
    AttentionBackwardArgs b{};
    b.forward = args();
    b.grad_out = grad_out.bytes.data();
    b.grad_q = grad_q.bytes.data(), b.grad_k = grad_k.bytes.data(), b.grad_v = grad_v.bytes.data();
    b.grad_q_stride_b = q.stride_b, b.grad_q_stride_t = q.stride_t, b.grad_q_stride_h = q.stride_h;
    b.grad_k_stride_b = k.stride_b, b.grad_k_stride_t = k.stride_t, b.grad_k_stride_h = k.stride_h;
    b.grad_v_stride_b = v.stride_b, b.grad_v_stride_t = v.stride_t, b.grad_v_stride_h = v.stride_h;
    b.grad_bias = with_bias ? grad_bias.data() : nullptr;
    b.workspace = workspace.data();
    table.attention_backward.get(q.dtype)(b, nullptr);
  }

  static Strided make(const Shape& s, DType dtype, bool heads_first) {
    return Strided(s.batch, s.length, s.heads, s.head_dim, dtype, heads_first);
  }

  AttentionCase c;
  Shape q_shape, kv_shape;
  Strided q, k, v, out, grad_out, grad_q, grad_k, grad_v, bias;
  std::vector<float> lse, workspace, grad_bias;
  AttentionTensors in;
  std::vector<double> grad_out_values;
  int64_t step = AttentionOracle::kStep;
};

void expect_near(const Shape& s, const Strided& actual, const std::vector<double>& expected, double tolerance,
                 const std::string& what) {
  double worst = 0;
  for_each_element(s, actual, [&](int64_t at, int64_t index) {
    const double error = std::fabs(actual.get(at) - expected[index]) / (1 + std::fabs(expected[index]));
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  });
  EXPECT_LE(worst, tolerance) << what;
}

struct NamedCase {
  std::string name;
  AttentionCase c;
};

/// Each option alone and combined, over one and several tiles, with odd sizes.
std::vector<NamedCase> cases() {
  std::vector<NamedCase> list;
  const auto add = [&list](const std::string& name, const std::function<void(AttentionCase&)>& change) {
    for (int64_t length : {7, 150}) {
      AttentionCase c;
      c.batch = 2, c.q_len = c.kv_len = length, c.num_heads = 4, c.num_kv_heads = 2, c.head_dim = 19;
      change(c);
      list.push_back({name + " T=" + std::to_string(length), c});
    }
  };
  const auto documents = [](AttentionCase& c) {
    for (int64_t i = 0; i < c.batch * c.q_len; ++i) c.q_documents.push_back(static_cast<int32_t>(i / 41));
  };
  const auto mask = [](AttentionCase& c) {
    for (int64_t i = 0; i < c.batch * c.kv_len; ++i) c.key_mask.push_back(i % 5 != 2);
  };
  add("full", [](AttentionCase&) {});
  add("causal", [](AttentionCase& c) { c.causal = true; });
  add("one head each", [](AttentionCase& c) { c.causal = true, c.num_kv_heads = 4, c.head_dim = 64; });
  add("all heads share", [](AttentionCase& c) { c.causal = true, c.num_kv_heads = 1, c.head_dim = 1; });
  add("causal window", [](AttentionCase& c) { c.causal = true, c.window = 5; });
  add("two-sided window", [](AttentionCase& c) { c.window = 30; });
  add("key mask", mask);
  add("documents", documents);
  add("causal documents", [&](AttentionCase& c) { c.causal = true, documents(c); });
  // In each stretch of 47 keys a prefix of 29, but for the second sequence, whose prefix is long; what starts inside
  // one of them, with q_len < kv_len, is seen from there on.
  const auto prefixes = [](AttentionCase& c) {
    c.causal = true;
    for (int64_t b = 0; b < c.batch; ++b) {
      for (int64_t i = 0; i < c.q_len; ++i) {
        const int64_t position = i + (c.q_start.empty() ? c.kv_len - c.q_len : c.q_start[b]);
        const int64_t begin = b == 0 ? position / 47 * 47 : 0, end = b == 0 ? begin + 29 : c.kv_len * 3 / 4;
        c.prefix_ends.push_back(static_cast<int32_t>(position < end ? end : 0));
      }
    }
  };
  add("prefixes", prefixes);
  add("prefixes, window", [&](AttentionCase& c) { c.window = 12, prefixes(c); });
  add("prefixes, documents, mask, dropout, softcap", [&](AttentionCase& c) {
    c.dropout_p = 0.2f, c.softcap = 2.0f;
    prefixes(c), mask(c);
    for (int64_t i = 0; i < c.batch * c.q_len; ++i) c.q_documents.push_back(static_cast<int32_t>(i % c.q_len / 47));
  });
  add("prefixes, lengths, bias", [&](AttentionCase& c) {
    c.kv_lengths = {static_cast<int32_t>(c.kv_len), 5}, c.q_start = {0, 0}, c.bias = true;
    prefixes(c);
  });
  add("prefixes, more keys than queries", [&](AttentionCase& c) { c.kv_len += 70, prefixes(c); });
  add("softcap", [](AttentionCase& c) { c.causal = true, c.softcap = 1.5f; });
  add("bias", [](AttentionCase& c) { c.bias = true; });
  add("bias of each sequence, softcap", [](AttentionCase& c) { c.bias = c.bias_per_batch = true, c.softcap = 2.0f; });
  add("dropout", [](AttentionCase& c) { c.dropout_p = 0.3f; });
  add("more keys than queries", [](AttentionCase& c) { c.causal = true, c.kv_len += 133; });
  // Tiles have 32 or 64 queries and keys: key 64 is first seen by query 63, key 32 by query 31.
  add("one more key than queries", [](AttentionCase& c) { c.causal = true, c.q_len = 66, c.kv_len = 67; });
  add("more queries than keys: the first see nothing", [](AttentionCase& c) { c.causal = true, c.q_len += 70; });
  add("lengths and starts", [](AttentionCase& c) {
    c.causal = true;
    c.kv_len += 20;
    c.kv_lengths = {static_cast<int32_t>(c.kv_len), 3};
    c.q_start = {9, 0};
  });
  add("an empty sequence", [](AttentionCase& c) { c.kv_lengths = {0, 5}; });
  add("cross attention documents", [&](AttentionCase& c) {
    c.kv_len += 11;
    documents(c);
    for (int64_t i = 0; i < c.batch * c.kv_len; ++i) c.kv_documents.push_back(static_cast<int32_t>(i / 30));
  });
  add("everything", [&](AttentionCase& c) {
    c.causal = c.bias = true;
    c.window = 60;
    c.softcap = 3.0f;
    c.dropout_p = 0.2f;
    documents(c);
    mask(c);
  });
  for (int64_t group : {1, 3}) {
    AttentionCase c;
    c.batch = 2, c.q_len = 1, c.kv_len = 333, c.num_heads = 2 * group, c.num_kv_heads = 2, c.head_dim = 64;
    c.causal = true;
    c.kv_lengths = {333, 100};
    list.push_back({"decode, group of " + std::to_string(group), c});
    c.q_len = 4;
    c.prefix_ends = {332, 332, 332, 0, 99, 99, 0, 0};
    list.push_back({"four tokens, three in a prefix, group of " + std::to_string(group), c});
    c.prefix_ends = {};
    c.window = 120;
    list.push_back({"four new tokens, group of " + std::to_string(group), c});
  }
  AttentionCase wide;
  wide.batch = 1, wide.q_len = 70, wide.kv_len = 120, wide.num_heads = 1, wide.head_dim = 256;
  list.push_back({"head_dim 256", wide});
  wide.head_dim = 80, wide.causal = true;
  list.push_back({"head_dim 80", wide});
  return list;
}

TEST(Attention, ForwardMatchesTheDefinition) {
  for (const NamedCase& test : cases()) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      for (bool heads_first : {false, true}) {
        AttentionRun run(test.c, dtype, heads_first);
        AttentionOracle oracle;
        AttentionOracle::run(test.c, run.in, oracle);
        for (const NamedTable& named : kernel_tables_under_test()) {
          if (named.emulated && test.c.q_len > 7 && (heads_first || dtype == DType::bf16)) continue;
          const std::string what = test.name + " " + dtype_name(dtype) + " " + named.isa;
          run.forward(named.table);
          expect_near(run.q_shape, run.out, oracle.out, dtype == DType::f32 ? 3e-6 : 4e-3, what);
          for (size_t i = 0; i < run.lse.size(); ++i) {
            if (std::isinf(oracle.lse[i])) {
              ASSERT_EQ(run.lse[i], -INFINITY) << what;
            } else {
              ASSERT_NEAR(run.lse[i], oracle.lse[i], 3e-6 * (1 + std::fabs(oracle.lse[i]))) << what;
            }
          }
        }
      }
    }
  }
}

TEST(Attention, BackwardMatchesTheDefinition) {
  for (const NamedCase& test : cases()) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      AttentionRun run(test.c, dtype);
      AttentionOracle oracle;
      AttentionOracle::run(test.c, run.in, oracle, &run.grad_out_values);
      for (const NamedTable& named : kernel_tables_under_test()) {
        if (named.emulated && test.c.q_len > 7 && dtype == DType::bf16) continue;
        const std::string what = test.name + " " + dtype_name(dtype) + " " + named.isa;
        run.forward(named.table);
        // The backward starts from the rounded output, as it does in training.
        const double tolerance = dtype == DType::f32 ? 1e-5 : 3e-2;
        run.backward(named.table, test.c.bias);
        expect_near(run.q_shape, run.grad_q, oracle.grad_q, tolerance, what + " grad_q");
        expect_near(run.kv_shape, run.grad_k, oracle.grad_k, tolerance, what + " grad_k");
        expect_near(run.kv_shape, run.grad_v, oracle.grad_v, tolerance, what + " grad_v");
        if (test.c.bias) {
          for (size_t i = 0; i < run.grad_bias.size(); ++i) {
            ASSERT_NEAR(run.grad_bias[i], oracle.grad_bias[i], tolerance) << what << " grad_bias";
          }
        }
      }
    }
  }
}

/// The oracle's own backward against central differences of its forward.
TEST(Attention, DefinitionOfTheBackwardMatchesFiniteDifferences) {
  for (const NamedCase& test : cases()) {
    const AttentionCase& c = test.c;
    if (c.q_len > 7 || c.kv_len > 30) continue;
    const AttentionRun run(c, DType::f32);
    AttentionOracle oracle;
    AttentionOracle::run(c, run.in, oracle, &run.grad_out_values);
    AttentionTensors moved = run.in;
    const auto loss = [&] {
      AttentionOracle result;
      AttentionOracle::run(c, moved, result);
      double sum = 0;
      for (size_t i = 0; i < result.out.size(); ++i) sum += result.out[i] * run.grad_out_values[i];
      return sum;
    };
    const auto check = [&](std::vector<double>& values, const std::vector<double>& gradient, size_t every) {
      for (size_t i = 0; i < gradient.size(); i += every) {
        const double kept = values[i], step = 1e-5;
        values[i] = kept + step;
        const double above = loss();
        values[i] = kept - step;
        const double below = loss();
        values[i] = kept;
        ASSERT_NEAR(gradient[i], (above - below) / (2 * step), 1e-7) << test.name;
      }
    };
    check(moved.q, oracle.grad_q, 11);
    check(moved.k, oracle.grad_k, 7);
    check(moved.v, oracle.grad_v, 7);
    if (c.bias && !c.bias_per_batch) check(moved.bias, oracle.grad_bias, 3);
  }
}

/// Both schedules of the backward (by key head; by tile) and any number of threads give the same bytes.
TEST(Attention, BytesDoNotDependOnTheNumberOfThreads) {
  AttentionCase c;
  c.batch = 1, c.q_len = c.kv_len = 300, c.num_heads = 4, c.num_kv_heads = 2, c.head_dim = 40;
  c.causal = true;
  c.dropout_p = 0.1f;
  for (DType dtype : {DType::f32, DType::bf16}) {
    for (const NamedTable& named : kernel_tables_under_test()) {
      if (named.emulated) continue;  // one thread
      std::vector<uint8_t> first[4];
      for (int threads : {1, 2, 5}) {
        AttentionRun run(c, dtype);
        const int saved = num_threads();
        set_num_threads(threads);
        run.forward(named.table);
        run.backward(named.table, false);
        set_num_threads(saved);
        const std::vector<uint8_t>* results[] = {&run.out.bytes, &run.grad_q.bytes, &run.grad_k.bytes,
                                                 &run.grad_v.bytes};
        for (int i = 0; i < 4; ++i) {
          if (threads == 1) first[i] = *results[i];
          EXPECT_EQ(first[i], *results[i]) << named.isa << " result " << i << " with " << threads << " threads";
        }
      }
    }
  }
}

/// A token decoded alone gets the bytes it gets among all tokens: generation with a cache repeats the whole pass. On
/// CUDA few queries have their keys split between blocks, and get what they get among all tokens but for rounding.
TEST(Attention, DecodingRepeatsThePrefillToTheByte) {
  AttentionCase c;
  c.batch = 1, c.q_len = c.kv_len = 290, c.num_heads = 6, c.num_kv_heads = 2, c.head_dim = 48;
  c.causal = true;
  for (DType dtype : {DType::f32, DType::bf16}) {
    for (const NamedTable& named : kernel_tables_under_test()) {
      AttentionRun whole(c, dtype);
      whole.forward(named.table);
      for (int32_t position : {0, 111, 112, 200, 289}) {
        AttentionRun one(c, dtype);
        const int32_t length = position + 1;
        AttentionArgs args = one.args();
        args.q_len = 1;
        args.kv_lengths = &length;
        args.q = one.q.bytes.data() + one.q.offset(0, position, 0) * dtype_size(dtype);
        named.table.attention.get(dtype)(args, nullptr);
        if (named.emulated) {
          for (int64_t h = 0; h < c.num_heads; ++h) {
            for (int64_t d = 0; d < c.head_dim; ++d) {
              const double expected = whole.out.get(whole.out.offset(0, position, h) + d);
              ASSERT_NEAR(one.out.get(one.out.offset(0, 0, h) + d), expected,
                          (dtype == DType::f32 ? 1e-6 : 8e-3) * (1 + std::fabs(expected)))
                  << named.isa << " position " << position;
            }
          }
          continue;
        }
        const size_t row = c.num_heads * c.head_dim * dtype_size(dtype);
        EXPECT_EQ(std::memcmp(one.out.bytes.data(),
                              whole.out.bytes.data() + whole.out.offset(0, position, 0) * dtype_size(dtype), row),
                  0)
            << named.isa << " position " << position;
      }
    }
  }
}

/// Tiles that lie behind the prefix of all their queries are not even looked at: a value that is not a number would
/// show, with a weight of zero too.
TEST(Attention, TilesThatNoPrefixReachesAreSkipped) {
  AttentionCase c;
  c.q_len = c.kv_len = 512, c.head_dim = 16;
  c.causal = true;
  constexpr int64_t kPrefix = 200, kLateKeys = 448,
                    kEarlyQueries = 192;  // multiples of every kernel's tiles but the first
  for (int64_t i = 0; i < c.q_len; ++i) c.prefix_ends.push_back(i < kPrefix ? kPrefix : 0);
  const auto finite = [](const Strided& tensor, int64_t row) {
    for (int64_t d = 0; d < 16; ++d) {
      if (!std::isfinite(tensor.get(tensor.offset(0, row, 0) + d))) return false;
    }
    return true;
  };
  const auto poison = [](Strided& tensor, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) tensor.set(tensor.offset(0, row, 0), NAN);
  };
  for (const NamedTable& named : kernel_tables_under_test()) {
    AttentionRun late(c, DType::f32), early(c, DType::f32);
    poison(late.v, kLateKeys, c.kv_len);
    late.forward(named.table);
    for (int64_t i = 0; i < c.q_len; ++i) ASSERT_EQ(finite(late.out, i), i < kLateKeys) << named.isa << " query " << i;
    early.forward(named.table);
    poison(early.grad_out, 0, kEarlyQueries);
    early.backward(named.table, false);
    for (int64_t j = 0; j < c.kv_len; ++j) {
      if (j >= kPrefix && j < 256) continue;  // in a tile with the end of the prefix
      ASSERT_EQ(finite(early.grad_v, j), j >= kPrefix) << named.isa << " key " << j;
      ASSERT_EQ(finite(early.grad_k, j), j >= kPrefix) << named.isa << " key " << j;
    }
    for (int64_t i = 0; i < c.q_len; ++i)
      ASSERT_EQ(finite(early.grad_q, i), i >= kEarlyQueries) << named.isa << " " << i;
  }
}

/// Published inputs and outputs of a scaled dot-product attention with a mask of query-key pairs.
TEST(Attention, MatchesPublishedValues) {
  const char* data = std::getenv("ONDOL_TEST_DATA");
  if (data == nullptr || *data == '\0') GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  const SafetensorsFile file(std::string(data) + "/vectors/prenorm_lm/sdpa.safetensors");
  constexpr int64_t kBatch = 2, kHeads = 16, kLength = 32, kDim = 64;
  const auto values = [&file](const char* name) {
    return reinterpret_cast<const float*>(file.bytes(*file.find(name)));
  };
  const auto* blocked = reinterpret_cast<const uint8_t*>(file.bytes(*file.find("mask_true_means_blocked")));
  std::vector<float> bias(kLength * kLength), out(kBatch * kHeads * kLength * kDim);
  for (int64_t i = 0; i < kLength * kLength; ++i) bias[i] = blocked[i] != 0 ? -INFINITY : 0.0f;
  AttentionArgs a{};
  a.q = values("Q"), a.k = values("K"), a.v = values("V"), a.out = out.data();
  a.batch = kBatch, a.q_len = a.kv_len = kLength, a.num_heads = a.num_kv_heads = kHeads, a.head_dim = kDim;
  a.q_stride_t = a.k_stride_t = a.v_stride_t = a.out_stride_t = kDim;
  a.q_stride_h = a.k_stride_h = a.v_stride_h = a.out_stride_h = kLength * kDim;
  a.q_stride_b = a.k_stride_b = a.v_stride_b = a.out_stride_b = kHeads * kLength * kDim;
  a.scale = 0.125f;
  a.bias = bias.data();
  a.bias_stride_q = kLength, a.bias_stride_k = 1;
  const float* expected = values("expected_output");
  for (const NamedTable& named : kernel_tables_under_test()) {
    named.table.attention.get(DType::f32)(a, nullptr);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 1e-6) << named.isa << " at " << i;
  }
}

}  // namespace
}  // namespace ondol
