// reduce, softmax, cross_entropy, their backward, gather, scatter_add and argmax, emulated, against double.
#include <algorithm>
#include <limits>

#include "support/cuda_emulation/row_test.h"

namespace ondol {
namespace {

using namespace row_test;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class T>
class CudaReductions : public DataTypeTest<T> {};
TYPED_TEST_SUITE(CudaReductions, DataTypes);

/// Runs one reduction into Out and compares it.
template <class T, class Out>
void check_reduce(const std::vector<T>& in, const std::array<size_t, 3>& shape, ReduceKind kind, bool accumulate) {
  const auto [outer, reduced, inner] = shape;
  const auto start = random_values<Out>(outer * inner, 9);
  std::vector<double> expected;
  for (size_t o = 0; o < outer; ++o) {
    for (size_t n = 0; n < inner; ++n) {
      double value = kind == ReduceKind::max ? -kInfinity : 0.0;
      for (size_t i = 0; i < reduced; ++i) {
        const double v = value_of(in[(o * reduced + i) * inner + n]);
        value = kind == ReduceKind::max ? std::max(value, v) : value + v;
      }
      if (kind == ReduceKind::mean) value /= static_cast<double>(reduced);
      expected.push_back(value + (accumulate ? value_of(start[o * inner + n]) : 0.0));
    }
  }
  std::vector<Out> first;
  for_seeds([&] {
    EmulatedArray<T> din(in);
    EmulatedArray<Out> dout(start);
    run_row<T>(&KernelTable::reduce,
               ReduceArgs{din.data(), dout.data(), dtype_of<Out>::value, static_cast<int64_t>(outer),
                          static_cast<int64_t>(reduced), static_cast<int64_t>(inner), kind, accumulate});
    expect_close(dout.host(), expected, concat("reduce ", static_cast<int>(kind), " ", outer, "x", reduced, "x", inner),
                 2e-6, 1.0 + std::sqrt(static_cast<double>(reduced)));
    if (first.empty()) first = dout.host();
    expect_same_bytes(dout.host(), first, "reduce does not depend on the schedule");
  });
}

TYPED_TEST(CudaReductions, Reduce) {
  using T = TypeParam;
  const std::vector<std::array<size_t, 3>> shapes{{0, 3, 2},   {2, 3, 0},     {1, 1, 1},    {3, 0, 2},
                                                  {2, 0, 1},   {4, 37, 1},    {2, 5, 7},    {1, 300, 33},
                                                  {3, 600, 3}, {1, 40000, 1}, {2, 16385, 1}};
  for (const auto& shape : shapes) {
    const auto in = random_values<T>(shape[0] * shape[1] * shape[2], 1);
    for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::mean, ReduceKind::max}) {
      check_reduce<T, float>(in, shape, kind, false);
      check_reduce<T, float>(in, shape, kind, true);
      check_reduce<T, T>(in, shape, kind, false);
    }
  }
}

TYPED_TEST(CudaReductions, ReduceCarriesNan) {
  using T = TypeParam;
  auto in = random_values<T>(300 * 2, 1);
  in[401] = T(NAN);
  for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::mean, ReduceKind::max}) {
    EmulatedArray<T> din(in);
    EmulatedArray<float> dout(2), drow(1);
    run_row<T>(&KernelTable::reduce, ReduceArgs{din.data(), dout.data(), DType::f32, 1, 300, 2, kind, false});
    run_row<T>(&KernelTable::reduce, ReduceArgs{din.data(), drow.data(), DType::f32, 1, 600, 1, kind, false});
    EXPECT_FALSE(std::isnan(dout.host()[0]));
    EXPECT_TRUE(std::isnan(dout.host()[1]));
    EXPECT_TRUE(std::isnan(drow.host()[0]));
  }
}

/// log sum exp of a row, with its maximum taken out.
double log_sum_exp(const std::vector<double>& row) {
  const double max = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const double v : row) sum += std::exp(v - max);
  return max + std::log(sum);
}

TYPED_TEST(CudaReductions, Softmax) {
  using T = TypeParam;
  for (const auto& [rows, cols] :
       std::vector<std::pair<size_t, size_t>>{{0, 4}, {1, 1}, {3, 7}, {2, 64}, {5, 1030}, {1, 5000}}) {
    for (const bool log : {false, true}) {
      auto in = random_values<T>(rows * cols, 1, 4.0f);
      const auto grad_out = random_values<T>(rows * cols, 2);
      if (cols > 8) {
        in[1] = T(-kInfinity);  // a masked place
        in[cols - 1] = T(90.0f);
      }
      std::vector<double> out, grad_in(rows * cols);
      std::vector<T> rounded;
      for (size_t r = 0; r < rows; ++r) {
        std::vector<double> row;
        for (size_t c = 0; c < cols; ++c) row.push_back(value_of(in[r * cols + c]));
        const double lse = log_sum_exp(row);
        for (const double v : row) out.push_back(log ? v - lse : std::exp(v - lse));
        double sum = 0;
        for (size_t c = 0; c < cols; ++c) {
          rounded.push_back(T(static_cast<float>(out[r * cols + c])));
          const double p = value_of(rounded.back()), g = value_of(grad_out[r * cols + c]);
          sum += log ? g : g * p;
        }
        for (size_t c = 0; c < cols; ++c) {
          const double p = value_of(rounded[r * cols + c]), g = value_of(grad_out[r * cols + c]);
          grad_in[r * cols + c] = log ? g - std::exp(p) * sum : p * (g - sum);
        }
      }
      const auto n = static_cast<int64_t>(rows), m = static_cast<int64_t>(cols);
      const std::string what = concat(log ? "log_softmax " : "softmax ", rows, "x", cols);
      for_seeds([&] {
        for (const bool in_place : {false, true}) {
          EmulatedArray<T> din(in), dout(rows * cols), dgrad_out(grad_out), drounded(rounded);
          EmulatedArray<T>& result = in_place ? din : dout;
          run_row<T>(&KernelTable::softmax, SoftmaxArgs{din.data(), result.data(), n, m, log});
          expect_close(result.host(), out, what);
          EmulatedArray<T>& gradient = in_place ? dgrad_out : dout;
          run_row<T>(&KernelTable::softmax_backward,
                     SoftmaxBackwardArgs{dgrad_out.data(), drounded.data(), gradient.data(), n, m, log});
          expect_close(gradient.host(), grad_in, what + " backward", 2e-5);
        }
      });
    }
  }
}

TYPED_TEST(CudaReductions, CrossEntropy) {
  using T = TypeParam;
  for (const auto& [rows, cols, stride] : std::vector<std::array<size_t, 3>>{
           {0, 4, 4}, {1, 1, 1}, {5, 7, 9}, {4, 64, 64}, {3, 1031, 1040}, {3, 4096, 4104}}) {
    const auto logits = random_values<T>(rows * stride, 1, 3.0f);
    auto labels = random_integers(rows, 2, static_cast<int32_t>(cols));
    if (rows > 1) labels[1] = -100;
    const float grad_scale = 0.25f;
    std::vector<double> loss, lse, grad = values_of(logits);  // what lies between the rows stays
    for (size_t r = 0; r < rows; ++r) {
      std::vector<double> row;
      for (size_t c = 0; c < cols; ++c) row.push_back(value_of(logits[r * stride + c]));
      lse.push_back(log_sum_exp(row));
      loss.push_back(labels[r] == -100 ? 0.0 : lse[r] - row[static_cast<size_t>(labels[r])]);
      for (size_t c = 0; c < cols; ++c) {
        const double target = static_cast<int32_t>(c) == labels[r] ? 1.0 : 0.0;
        grad[r * stride + c] = labels[r] == -100 ? 0.0 : (std::exp(row[c] - lse[r]) - target) * 3.0 * grad_scale;
      }
    }
    const auto n = static_cast<int64_t>(rows), m = static_cast<int64_t>(cols), s = static_cast<int64_t>(stride);
    for_seeds([&] {
      EmulatedArray<T> dlogits(logits), dgrad(logits);
      EmulatedArray<int32_t> dlabels(labels);
      EmulatedArray<float> dloss(rows), dlse(rows), dscale(std::vector<float>{grad_scale});
      run_row<T>(&KernelTable::cross_entropy,
                 CrossEntropyArgs{dlogits.data(), n, m, s, dlabels.data(), -100, dloss.data(), dlse.data()});
      expect_close(dloss.host(), loss, concat("cross_entropy ", cols));
      expect_close(dlse.host(), lse, concat("cross_entropy lse ", cols));
      for (T* target : {dgrad.data(), dlogits.data()}) {
        CrossEntropyBackwardArgs back{};
        back.logits = dlogits.data();
        back.rows = n, back.cols = m, back.row_stride = s, back.grad_row_stride = s;
        back.labels = dlabels.data();
        back.ignore_index = -100;
        back.lse = dlse.data();
        back.scale = 3.0f;
        back.grad_scale = dscale.data();
        back.grad_logits = target;
        run_row<T>(&KernelTable::cross_entropy_backward, back);
      }
      expect_close(dgrad.host(), grad, concat("cross_entropy_backward ", cols));
      expect_close(dlogits.host(), grad, concat("cross_entropy_backward in place ", cols));
    });
  }
}

TYPED_TEST(CudaReductions, LogSumExpOfNothingIsMinusInfinity) {
  using T = TypeParam;
  EmulatedArray<T> logits(std::vector<T>(700, T(-kInfinity)));
  EmulatedArray<int32_t> labels(std::vector<int32_t>{-100});
  EmulatedArray<float> loss(1), lse(1);
  run_row<T>(&KernelTable::cross_entropy,
             CrossEntropyArgs{logits.data(), 1, 700, 700, labels.data(), -100, loss.data(), lse.data()});
  EXPECT_EQ(lse.host()[0], -kInfinity);
  EXPECT_EQ(loss.host()[0], 0.0f);
}

TYPED_TEST(CudaReductions, LabelOutsideTheVocabularyGivesNan) {
  using T = TypeParam;
  EmulatedArray<T> logits(random_values<T>(12, 1)), grad(12);
  EmulatedArray<int32_t> labels(std::vector<int32_t>{6, 2});
  EmulatedArray<float> loss(2), lse(2);
  run_row<T>(&KernelTable::cross_entropy,
             CrossEntropyArgs{logits.data(), 2, 6, 6, labels.data(), -100, loss.data(), lse.data()});
  EXPECT_TRUE(std::isnan(loss.host()[0]));
  EXPECT_FALSE(std::isnan(loss.host()[1]));
  run_row<T>(&KernelTable::cross_entropy_backward, CrossEntropyBackwardArgs{logits.data(), 2, 6, 6, labels.data(), -100,
                                                                            lse.data(), 1.0f, nullptr, grad.data(), 6});
  EXPECT_TRUE(std::isnan(value_of(grad.host()[0])));
  EXPECT_FALSE(std::isnan(value_of(grad.host()[6])));
}

TYPED_TEST(CudaReductions, GatherAndScatterAdd) {
  using T = TypeParam;
  for (const auto& [outer, from, to, inner] : std::vector<std::array<size_t, 4>>{
           {0, 2, 3, 1}, {1, 1, 1, 1}, {3, 5, 4, 1}, {2, 7, 40, 3}, {1, 50, 9, 11}, {2, 4, 0, 3}}) {
    const auto in = random_values<T>(outer * from * inner, 1), grad = random_values<T>(outer * to * inner, 2);
    const auto start = random_values<T>(outer * from * inner, 3);
    const auto index = random_integers(outer * to * inner, 4, static_cast<int32_t>(from));
    std::vector<double> out;
    std::vector<T> scattered = start;
    for (size_t i = 0; i < outer * to * inner; ++i) {
      const size_t o = i / (to * inner), n = i % inner;
      const size_t place = (o * from + static_cast<size_t>(index[i])) * inner + n;
      out.push_back(value_of(in[place]));
      scattered[place] = T(static_cast<float>(value_of(scattered[place])) + static_cast<float>(value_of(grad[i])));
    }
    const auto a = static_cast<int64_t>(outer), b = static_cast<int64_t>(from), c = static_cast<int64_t>(to),
               d = static_cast<int64_t>(inner);
    for_seeds([&] {
      EmulatedArray<T> din(in), dout(outer * to * inner), dgrad(grad), dscattered(start);
      EmulatedArray<int32_t> dindex(index);
      run_row<T>(&KernelTable::gather, GatherArgs{din.data(), dindex.data(), dout.data(), a, b, c, d});
      expect_close(dout.host(), out, "gather", 0.0);
      run_row<T>(&KernelTable::scatter_add, ScatterAddArgs{dgrad.data(), dindex.data(), dscattered.data(), a, c, b, d});
      expect_same_bytes(dscattered.host(), scattered, "scatter_add");
    });
  }
}

TYPED_TEST(CudaReductions, Argmax) {
  using T = TypeParam;
  for (const size_t cols : {1, 2, 31, 33, 1000, 5000}) {
    const size_t rows = 4;
    auto in = random_values<T>(rows * cols, cols);
    for (size_t c = 0; c < cols; ++c) in[cols + c] = T(1.0f);            // all alike: the first
    for (size_t c = 0; c < cols; ++c) in[2 * cols + c] = T(-kInfinity);  // nothing greater than -inf
    in[3 * cols + cols / 2] = T(NAN);                                    // counts as the greatest
    in[3 * cols + cols - 1] = T(NAN);
    std::vector<int32_t> expected{0, 0, 0, static_cast<int32_t>(cols / 2)};
    for (size_t c = 0; c < cols; ++c) {
      if (value_of(in[c]) > value_of(in[static_cast<size_t>(expected[0])])) expected[0] = static_cast<int32_t>(c);
    }
    for_seeds([&] {
      EmulatedArray<T> din(in);
      EmulatedArray<int32_t> dindex(rows);
      run_row<T>(&KernelTable::argmax, ArgmaxArgs{din.data(), dindex.data(), rows, static_cast<int64_t>(cols)});
      EXPECT_EQ(dindex.host(), expected) << cols;
    });
  }
}

}  // namespace
}  // namespace ondol
