// The functions of simd.h against double over all exponents: through the rows of each instruction set of this machine.
#include <vector>

#include <gtest/gtest.h>

#include "backend/kernel_tables.h"
#include "backend/ulp.h"

namespace ondol {
namespace {

/// Results and arguments below this are flushed to 0 in the kernels.
constexpr float kSmallestNormal = 0x1p-126f;

/// The tables whose kernels are built on simd.h.
std::vector<NamedTable> cpu_tables() {
  std::vector<NamedTable> tables;
  for (const NamedTable& named : kernel_tables_under_test()) {
    if (named.isa.find("cuda") == std::string::npos) tables.push_back(named);
  }
  return tables;
}

void expect_accurate(UnaryKind kind, const char* name, double ulps, double (*exact)(double)) {
  std::vector<float> in;
  for_each_spread_float([&in](float x) {
    if (x == 0.0f || !(std::abs(x) < kSmallestNormal)) in.push_back(x);
  });
  std::vector<float> out(in.size());
  for (const NamedTable& named : cpu_tables()) {
    named.table.unary.get(DType::f32)(UnaryArgs{in.data(), out.data(), static_cast<int64_t>(in.size()), kind, 0.0f},
                                      nullptr);
    double worst = 0;
    float at = 0;
    for (size_t i = 0; i < in.size(); ++i) {
      const double want = exact(static_cast<double>(in[i]));
      if (std::abs(want) < static_cast<double>(kSmallestNormal) && std::abs(out[i]) <= kSmallestNormal) continue;
      const double error = ulp_error(out[i], want);
      if (error > worst) worst = error, at = in[i];
    }
    EXPECT_LE(worst, ulps) << name << " at " << at << " (" << named.isa << ")";
  }
}

TEST(Simd, ExpWithinOneUlp) {
  expect_accurate(UnaryKind::exp, "exp", 1.0, [](double x) { return std::exp(x); });
}
TEST(Simd, LogWithinOneUlp) {
  expect_accurate(UnaryKind::log, "log", 1.0, [](double x) { return std::log(x); });
}
TEST(Simd, TanhWithinOneAndAHalfUlps) {
  expect_accurate(UnaryKind::tanh, "tanh", 1.5, [](double x) { return std::tanh(x); });
}
TEST(Simd, SigmoidWithinThreeUlps) {
  // Below -87 the result stays at about 1e-38.
  expect_accurate(UnaryKind::sigmoid, "sigmoid", 3.0,
                  [](double x) { return 1.0 / (1.0 + std::exp(-std::max(x, -87.0))) + (std::isnan(x) ? x : 0.0); });
}

/// Relative to the input: that is the scale of what a residual stream adds it to.
TEST(Simd, GeluErfWithinRoundingsOfItsInput) {
  std::vector<float> in, out;
  for_each_spread_float([&in](float x) {
    if (std::isfinite(x)) in.push_back(x);
  });
  out.resize(in.size());
  for (const NamedTable& named : cpu_tables()) {
    named.table.unary.get(DType::f32)(
        UnaryArgs{in.data(), out.data(), static_cast<int64_t>(in.size()), UnaryKind::gelu_erf, 0.0f}, nullptr);
    for (size_t i = 0; i < in.size(); ++i) {
      const double x = static_cast<double>(in[i]), want = 0.5 * x * std::erfc(-x / std::sqrt(2.0));
      ASSERT_NEAR(static_cast<double>(out[i]), want, 0x1p-23 * std::abs(x) + 1e-37) << in[i] << " " << named.isa;
    }
  }
}

TEST(Simd, ConversionToBf16RoundsToNearestEvenAndKeepsNan) {
  std::vector<float> in;
  for_each_spread_float([&in](float x) { in.push_back(x); });
  for (uint32_t upper = 0; upper < 0x10000; ++upper) in.push_back(std::bit_cast<float>(upper << 16 | 0x8000u));
  std::vector<bfloat16> out(in.size());
  for (const NamedTable& named : cpu_tables()) {
    CopyArgs args{in.data(), out.data(), DType::f32, DType::bf16, 1, {static_cast<int64_t>(in.size())}, {1}, {1}};
    named.table.copy.get(DType::f32)(args, nullptr);
    for (size_t i = 0; i < in.size(); ++i) ASSERT_EQ(out[i].bits, bfloat16(in[i]).bits) << in[i] << " " << named.isa;
  }
}

}  // namespace
}  // namespace ondol
