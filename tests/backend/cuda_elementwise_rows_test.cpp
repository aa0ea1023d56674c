// fill, copy, binary, unary, unary_backward and the optimizer rows, emulated. Formulas are checked in double; copies,
// which have a hundred pairs of dtypes, against the CPU rows.
#include <numeric>

#include "support/cuda_emulation/row_test.h"

namespace ondol {
namespace {

using namespace row_test;

template <class T>
class CudaElementwise : public DataTypeTest<T> {};
TYPED_TEST_SUITE(CudaElementwise, DataTypes);

constexpr DType kAllDTypes[] = {DType::f32, DType::bf16, DType::f16, DType::f64, DType::i64,
                                DType::i32, DType::i16,  DType::i8,  DType::u8,  DType::boolean};

/// `count` small non-negative integers in any dtype: every conversion of them is exact and defined.
std::vector<uint8_t> small_values(DType dtype, size_t count) {
  std::vector<float> source(count);
  for (size_t i = 0; i < count; ++i) source[i] = static_cast<float>(dtype == DType::boolean ? i % 2 : i % 100);
  std::vector<uint8_t> out(count * dtype_size(dtype));
  CopyArgs args{source.data(), out.data(), DType::f32, dtype, 1, {static_cast<int64_t>(count)}, {1}, {1}};
  cpu_backend().table.copy.get(DType::f32)(args, nullptr);
  return out;
}

struct CopyCase {
  std::vector<int64_t> shape, in_stride, out_stride;
};

void check_copy(const CopyCase& c, DType from, DType to) {
  size_t in_count = 1, out_count = 1;
  CopyArgs args{};
  args.in_dtype = from, args.out_dtype = to;
  args.ndim = static_cast<int>(c.shape.size());
  for (size_t d = 0; d < c.shape.size(); ++d) {
    args.shape[d] = c.shape[d], args.in_stride[d] = c.in_stride[d], args.out_stride[d] = c.out_stride[d];
    in_count += static_cast<size_t>(std::max<int64_t>(0, c.shape[d] - 1) * c.in_stride[d]);
    out_count += static_cast<size_t>(std::max<int64_t>(0, c.shape[d] - 1) * c.out_stride[d]);
  }
  const auto in = small_values(from, in_count);
  std::vector<uint8_t> expected(out_count * dtype_size(to), 0x11);
  const EmulatedArray<uint8_t> din(in), dout(expected);
  args.in = in.data(), args.out = expected.data();
  cpu_backend().table.copy.get(from)(args, nullptr);
  args.in = din.data(), args.out = dout.data();
  emulated_cuda_table().copy.get(from)(args, nullptr);
  expect_same_bytes(dout.host(), expected, concat("copy ", dtype_name(from), " to ", dtype_name(to)));
}

TEST(CudaMemoryRows, CopyConvertsEveryPairOfDtypes) {
  for (const DType from : kAllDTypes) {
    for (const DType to : kAllDTypes) {
      check_copy({{37}, {1}, {1}}, from, to);
      check_copy({{3, 5}, {1, 3}, {7, 1}}, from, to);
    }
  }
  EXPECT_EQ(emulation::allocated_bytes(), 0u);
}

TEST(CudaMemoryRows, CopyOfAnyStrides) {
  const std::vector<CopyCase> cases{
      {{0}, {1}, {1}},
      {{1}, {1}, {1}},
      {{}, {}, {}},
      {{2, 3, 4, 16}, {192, 16, 48, 1}, {192, 64, 16, 1}},  // (B, T, H, D) -> (B, H, T, D), whole 128-bit units
      {{2, 3, 4, 5}, {60, 5, 15, 1}, {60, 20, 5, 1}},       // the same, too odd for them
      {{4, 6}, {0, 1}, {6, 1}},                             // broadcast
      {{3, 1, 2, 2, 1, 2}, {8, 9, 4, 2, 5, 1}, {1, 1, 3, 6, 1, 12}},
      {{5, 32}, {33, 1}, {40, 1}},
  };
  for (const CopyCase& c : cases) {
    for (const DType dtype : kAllDTypes) check_copy(c, dtype, dtype);
    check_copy(c, DType::f32, DType::bf16);
  }
}

TEST(CudaMemoryRows, ConversionRoundsToNearestEvenAndKeepsNan) {
  std::vector<float> in{1.0f, 1.00390625f, 1.01171875f, -0.0f, NAN, INFINITY, -INFINITY, 3.4e38f, 1e-40f};
  const auto more = random_values<float>(100, 3);
  in.insert(in.end(), more.begin(), more.end());
  std::vector<double> expected;
  for (const float v : in) expected.push_back(value_of(bfloat16(v)));
  const EmulatedArray<float> din(in);
  const EmulatedArray<bfloat16> dout(in.size());
  CopyArgs args{din.data(), dout.data(), DType::f32, DType::bf16, 1, {static_cast<int64_t>(in.size())}, {1}, {1}};
  emulated_cuda_table().copy.get(DType::f32)(args, nullptr);
  const auto out = dout.host();
  for (size_t i = 0; i < in.size(); ++i) {
    EXPECT_TRUE(std::isnan(in[i]) ? std::isnan(value_of(out[i])) : value_of(out[i]) == expected[i]) << in[i];
  }
}

TEST(CudaMemoryRows, Fill) {
  for (const DType dtype : kAllDTypes) {
    for (const int64_t count : {0, 1, 300}) {
      for (const double value : {0.0, 1.0, 5.0}) {
        std::vector<uint8_t> expected(static_cast<size_t>(count) * dtype_size(dtype), 0x11);
        const EmulatedArray<uint8_t> dout(expected);
        cpu_backend().table.fill.get(dtype)({expected.data(), count, value}, nullptr);
        emulated_cuda_table().fill.get(dtype)({dout.data(), count, value}, nullptr);
        expect_same_bytes(dout.host(), expected, concat("fill ", dtype_name(dtype), " with ", value));
      }
    }
  }
}

template <class T>
void check_binary(double tolerance) {
  struct Case {
    std::vector<int64_t> shape, a_stride, b_stride;
  };
  const std::vector<Case> cases{{{0}, {1}, {1}},
                                {{1}, {1}, {1}},
                                {{1037}, {1}, {1}},
                                {{7, 33}, {33, 1}, {0, 1}},
                                {{7, 33}, {1, 7}, {1, 0}},
                                {{2, 3, 4, 5}, {60, 20, 5, 1}, {0, 5, 0, 1}},
                                {{}, {}, {}}};
  for (const Case& c : cases) {
    size_t count = 1;
    for (const int64_t n : c.shape) count *= static_cast<size_t>(n);
    const auto a = random_values<T>(count + 1, 1), b = random_values<T>(count + 1, 2);
    for (const BinaryKind kind : {BinaryKind::add, BinaryKind::sub, BinaryKind::mul, BinaryKind::div}) {
      BinaryArgs args{};
      args.kind = kind;
      args.ndim = static_cast<int>(c.shape.size());
      for (size_t d = 0; d < c.shape.size(); ++d) {
        args.shape[d] = c.shape[d], args.a_stride[d] = c.a_stride[d], args.b_stride[d] = c.b_stride[d];
      }
      std::vector<double> expected;
      for (size_t i = 0; i < count; ++i) {
        size_t rest = i, at_a = 0, at_b = 0;
        for (int d = args.ndim - 1; d >= 0; --d) {
          const size_t index = rest % static_cast<size_t>(args.shape[d]);
          rest /= static_cast<size_t>(args.shape[d]);
          at_a += index * static_cast<size_t>(args.a_stride[d]);
          at_b += index * static_cast<size_t>(args.b_stride[d]);
        }
        const double x = value_of(a[at_a]), y = value_of(b[at_b]);
        expected.push_back(kind == BinaryKind::add   ? x + y
                           : kind == BinaryKind::sub ? x - y
                           : kind == BinaryKind::mul ? x * y
                                                     : x / y);
      }
      EmulatedArray<T> da(a), db(b), dout(count);
      args.a = da.data(), args.b = db.data(), args.out = dout.data();
      run_row<T>(&KernelTable::binary, args);
      const std::string what = concat("binary ", static_cast<int>(kind), " of ", count);
      expect_close(dout.host(), expected, what, tolerance);
      if constexpr (std::is_same_v<T, double>) {  // of the CPU nothing else tests it
        std::vector<double> out(count);
        args.a = a.data(), args.b = b.data(), args.out = out.data();
        cpu_backend().table.binary.get(DType::f64)(args, nullptr);
        expect_close(out, expected, concat("cpu ", what), tolerance);
      }
    }
  }
}

TYPED_TEST(CudaElementwise, Binary) { check_binary<TypeParam>(1e-6); }
TEST(CudaElementwiseF64, Binary) { check_binary<double>(1e-15); }

double unary_value(UnaryKind kind, double x, double parameter) {
  switch (kind) {
    case UnaryKind::relu:
      return x > 0 ? x : 0;
    case UnaryKind::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case UnaryKind::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case UnaryKind::silu:
      return x / (1 + std::exp(-x));
    case UnaryKind::tanh:
      return std::tanh(x);
    case UnaryKind::sigmoid:
      return 1 / (1 + std::exp(-x));
    case UnaryKind::exp:
      return std::exp(x);
    case UnaryKind::log:
      return std::log(x);
    case UnaryKind::sqrt:
      return std::sqrt(x);
    case UnaryKind::square:
      return x * x;
    case UnaryKind::scale:
      return x * parameter;
    case UnaryKind::add_scalar:
      return x + parameter;
  }
  return 0;
}

TYPED_TEST(CudaElementwise, Unary) {
  using T = TypeParam;
  for (int k = 0; k <= static_cast<int>(UnaryKind::add_scalar); ++k) {
    const auto kind = static_cast<UnaryKind>(k);
    const bool positive = kind == UnaryKind::log || kind == UnaryKind::sqrt;
    for (const size_t count : {0, 1, 9, 1030}) {
      auto in = random_values<T>(count, 1, 2.0f);
      if (positive) {
        for (T& v : in) v = T(static_cast<float>(std::abs(value_of(v)) + 0.1));
      }
      const auto grad = random_values<T>(count, 2);
      std::vector<double> out, grad_in;
      for (size_t i = 0; i < count; ++i) {
        const double x = value_of(in[i]), h = 1e-5;
        out.push_back(unary_value(kind, x, 1.5));
        grad_in.push_back(value_of(grad[i]) * (unary_value(kind, x + h, 1.5) - unary_value(kind, x - h, 1.5)) /
                          (2 * h));
      }
      const std::string what = concat("unary ", k, " of ", count);
      const auto n = static_cast<int64_t>(count);
      for (const bool in_place : {false, true}) {
        EmulatedArray<T> din(in), dgrad(grad), dout(count), dgrad_in(count);
        EmulatedArray<T>& gradient = in_place ? dgrad : dgrad_in;
        run_row<T>(&KernelTable::unary_backward,
                   UnaryBackwardArgs{dgrad.data(), din.data(), gradient.data(), n, kind, 1.5f});
        expect_close(gradient.host(), grad_in, what + " backward");
        EmulatedArray<T>& result = in_place ? din : dout;
        run_row<T>(&KernelTable::unary, UnaryArgs{din.data(), result.data(), n, kind, 1.5f});
        expect_close(result.host(), out, what);
      }
    }
  }
}

TEST(CudaOptimizerRows, Adamw) {
  const float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, decay = 0.1f;
  for (const size_t count : {0, 1, 6, 1025}) {
    for (const int64_t step : {1, 2, 1000}) {
      const auto param = random_values<float>(count, 1), grad = random_values<float>(count, 2);
      const auto exp_avg = random_values<float>(count, 3, step == 1 ? 0.0f : 0.1f);
      auto exp_avg_sq = random_values<float>(count, 4, step == 1 ? 0.0f : 0.1f);
      for (float& v : exp_avg_sq) v = v * v;
      const OptimizerScalars scalars{1e-2f, 0.5f, step};
      std::vector<double> new_param, new_m, new_v;
      for (size_t i = 0; i < count; ++i) {
        const double g = static_cast<double>(grad[i]) * 0.5, b1 = beta1, b2 = beta2, lr = scalars.learning_rate;
        new_m.push_back(b1 * exp_avg[i] + (1 - b1) * g);
        new_v.push_back(b2 * exp_avg_sq[i] + (1 - b2) * g * g);
        const double m_hat = new_m[i] / (1 - std::pow(b1, step)), v_hat = new_v[i] / (1 - std::pow(b2, step));
        new_param.push_back(param[i] * (1 - lr * decay) - lr * m_hat / (std::sqrt(v_hat) + eps));
      }
      for (const bool low : {false, true}) {
        EmulatedArray<float> dp(param), dg(grad), dm(exp_avg), dv(exp_avg_sq);
        EmulatedArray<bfloat16> dlow(count);
        EmulatedArray<OptimizerScalars> ds(std::vector<OptimizerScalars>{scalars});
        const AdamwArgs args{dp.data(), low ? dlow.data() : nullptr,
                             dg.data(), dm.data(),
                             dv.data(), static_cast<int64_t>(count),
                             beta1,     beta2,
                             eps,       decay,
                             1.0f,      ds.data()};
        run_row<float>(&KernelTable::adamw, args);
        expect_close(dp.host(), new_param, "adamw param", 1e-6);
        expect_close(dm.host(), new_m, "adamw exp_avg", 1e-6);
        expect_close(dv.host(), new_v, "adamw exp_avg_sq", 1e-6);
        std::vector<bfloat16> rounded;
        for (const float p : dp.host()) rounded.push_back(bfloat16(p));
        if (low) expect_same_bytes(dlow.host(), rounded, "adamw low precision");
      }
    }
  }
}

TEST(CudaOptimizerRows, Sgd) {
  for (const size_t count : {0, 1, 777}) {
    for (const float momentum : {0.0f, 0.9f}) {
      for (const bool nesterov : {false, true}) {
        const auto param = random_values<float>(count, 1), grad = random_values<float>(count, 2);
        const auto buffer = random_values<float>(count, 3);
        const OptimizerScalars scalars{0.1f, 2.0f, 3};
        std::vector<double> new_param, new_buffer;
        for (size_t i = 0; i < count; ++i) {
          const double g = grad[i] * 2.0 + 0.01 * param[i], mu = momentum;
          const double u = mu * buffer[i] + g;
          new_buffer.push_back(momentum == 0.0f ? static_cast<double>(buffer[i]) : u);
          new_param.push_back(param[i] - 0.1 * (momentum == 0.0f ? g : nesterov ? g + mu * u : u));
        }
        EmulatedArray<float> dp(param), dg(grad), db(buffer);
        EmulatedArray<bfloat16> dlow(count);
        EmulatedArray<OptimizerScalars> ds(std::vector<OptimizerScalars>{scalars});
        run_row<float>(&KernelTable::sgd,
                       SgdArgs{dp.data(), dlow.data(), dg.data(), momentum == 0.0f ? nullptr : db.data(),
                               static_cast<int64_t>(count), momentum, 0.01f, 1.0f, nesterov, ds.data()});
        expect_close(dp.host(), new_param, "sgd param", 1e-6);
        expect_close(db.host(), new_buffer, "sgd buffer", 1e-6);
        expect_close(dlow.host(), new_param, "sgd low precision", 1e-6);
      }
    }
  }
}

TEST(CudaOptimizerRows, BlockSquares) {
  for (const size_t count : {0, 1, 255, 256, 300, 2048, 2049, 65537}) {
    for (const size_t shift : {0, 1}) {  // 0: aligned to 128 bits
      auto in = random_values<float>(count + shift, 1);
      std::vector<double> expected(count / 256 + (count % 256 != 0 ? 1 : 0));
      for (size_t i = 0; i < count; ++i) expected[i / 256] += static_cast<double>(in[i + shift]) * in[i + shift];
      std::vector<double> first;
      for_seeds([&] {
        EmulatedArray<float> din(in);
        EmulatedArray<double> dout(expected.size());
        const BlockSquaresArgs args{din.data() + shift, static_cast<int64_t>(count), dout.data()};
        run_row<float>(&KernelTable::block_squares, args);
        expect_close(dout.host(), expected, concat("block_squares ", count, " + ", shift), 1e-13);
        if (first.empty()) first = dout.host();
        expect_same_bytes(dout.host(), first, "block_squares does not depend on the schedule");
        if (count == 0) return;
        din.data()[shift + count / 2] = NAN;
        run_row<float>(&KernelTable::block_squares, args);
        for (size_t b = 0; b < expected.size(); ++b) {
          EXPECT_EQ(std::isnan(dout.host()[b]), b == count / 2 / 256) << "block " << b << " of " << count;
        }
      });
    }
  }
}

TEST(CudaOptimizerRows, BlocksGiveTheSameBytesWhereverTheyLie) {
  const auto in = random_values<float>(2048 + 1, 3);
  std::vector<float> shifted(in.begin() + 256, in.end());
  EmulatedArray<float> din(in), dshifted(shifted), dcopy(std::vector<float>(in.begin() + 1, in.end()));
  EmulatedArray<double> whole(8), part(7), unaligned(8), aligned(8);
  run_row<float>(&KernelTable::block_squares, BlockSquaresArgs{din.data(), 2048, whole.data()});
  run_row<float>(&KernelTable::block_squares, BlockSquaresArgs{dshifted.data(), 7 * 256, part.data()});
  const std::vector<double> all = whole.host();
  expect_same_bytes(part.host(), std::vector<double>(all.begin() + 1, all.end()), "behind the first block");
  run_row<float>(&KernelTable::block_squares, BlockSquaresArgs{din.data() + 1, 2048, unaligned.data()});
  run_row<float>(&KernelTable::block_squares, BlockSquaresArgs{dcopy.data(), 2048, aligned.data()});
  expect_same_bytes(unaligned.host(), aligned.host(), "aligned or not");
}

TEST(CudaOptimizerRows, SumAll) {
  for (const size_t count : {0, 1, 300, 8192, 8193, 100001}) {
    auto in = random_values<double>(count, 1);
    double expected = 0, size = 1e-300;
    for (const double v : in) expected += v, size += std::fabs(v);
    std::vector<double> first;
    for_seeds([&] {
      EmulatedArray<double> din(in);
      EmulatedArray<double> dout(1);
      run_row<double>(&KernelTable::sum_all, SumAllArgs{din.data(), static_cast<int64_t>(count), dout.data()});
      EXPECT_LE(std::fabs(dout.host()[0] - expected), 1e-13 * size) << count;
      if (first.empty()) first = dout.host();
      expect_same_bytes(dout.host(), first, "sum_all does not depend on the schedule");
    });
  }
}

}  // namespace
}  // namespace ondol
