// rms_norm, layer_norm and their backward, emulated, against double.
#include "support/cuda_emulation/row_test.h"

namespace ondol {
namespace {

using namespace row_test;

struct NormCase {
  int64_t rows, cols;
  bool centered, residual, affine, in_place;
  float weight_offset;
};

std::vector<NormCase> norm_cases() {
  std::vector<NormCase> out;
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{0, 8}, {1, 1}, {3, 7}, {5, 64}, {2, 520}, {270, 33}, {3, 4100}}) {
    for (const bool centered : {false, true}) {
      out.push_back({rows, cols, centered, false, true, false, 0.0f});
      out.push_back({rows, cols, centered, true, true, false, 1.0f});
      out.push_back({rows, cols, centered, true, false, true, 0.0f});
    }
  }
  return out;
}

std::string describe(const NormCase& c) {
  return concat(c.centered ? "layer_norm " : "rms_norm ", c.rows, "x", c.cols, " residual ", c.residual, " affine ",
                c.affine, " in place ", c.in_place);
}

template <class T>
class CudaNorm : public DataTypeTest<T> {};
TYPED_TEST_SUITE(CudaNorm, DataTypes);

TYPED_TEST(CudaNorm, Forward) {
  using T = TypeParam;
  for (const NormCase& c : norm_cases()) {
    const auto count = static_cast<size_t>(c.rows * c.cols), cols = static_cast<size_t>(c.cols);
    const auto x = random_values<T>(count, 1, 3.0f), residual = random_values<T>(count, 2);
    const auto weight = random_values<T>(cols, 3), bias = random_values<T>(cols, 4);
    std::vector<double> sum(count), out(count), mean, rstd;
    for (size_t r = 0; r < static_cast<size_t>(c.rows); ++r) {
      double m = 0, squares = 0;
      for (size_t i = r * cols; i < (r + 1) * cols; ++i) {
        sum[i] = value_of(x[i]);
        if (c.residual) sum[i] = value_of(T(static_cast<float>(value_of(x[i]) + value_of(residual[i]))));
        m += sum[i] / static_cast<double>(cols);
      }
      if (!c.centered) m = 0;
      for (size_t i = r * cols; i < (r + 1) * cols; ++i) squares += (sum[i] - m) * (sum[i] - m);
      const double s = 1.0 / std::sqrt(squares / static_cast<double>(cols) + 1e-5);
      mean.push_back(m);
      rstd.push_back(s);
      for (size_t i = 0; i < cols; ++i) {
        const double w = c.affine ? value_of(weight[i]) + c.weight_offset : 1.0;
        out[r * cols + i] = (sum[r * cols + i] - m) * s * w + (c.affine && c.centered ? value_of(bias[i]) : 0.0);
      }
    }
    for_seeds([&] {
      EmulatedArray<T> dx(x), dresidual(residual), dweight(weight), dbias(bias), dsum(count), dout(count);
      EmulatedArray<float> dmean(static_cast<size_t>(c.rows)), drstd(static_cast<size_t>(c.rows));
      NormArgs args{};
      args.x = dx.data();
      args.residual = c.residual ? dresidual.data() : nullptr;
      args.sum = c.residual ? (c.in_place ? dx.data() : dsum.data()) : nullptr;
      args.weight = c.affine ? dweight.data() : nullptr;
      args.bias = c.affine && c.centered ? dbias.data() : nullptr;
      args.out = dout.data();
      args.mean = c.centered ? dmean.data() : nullptr;
      args.rstd = drstd.data();
      args.rows = c.rows;
      args.cols = c.cols;
      args.eps = 1e-5f;
      args.weight_offset = c.weight_offset;
      run_row<T>(c.centered ? &KernelTable::layer_norm : &KernelTable::rms_norm, args);
      const double relative =
          cols == 1 ? 1e-3 : 1e-5;  // one column: the mean is the value, rounding is all that is left
      expect_close(dout.host(), out, describe(c), relative);
      expect_close(drstd.host(), rstd, describe(c) + " rstd", relative, cols == 1 ? 10.0 : 1.0);
      if (c.centered) expect_close(dmean.host(), mean, describe(c) + " mean");
      if (c.residual) expect_close((c.in_place ? dx : dsum).host(), sum, describe(c) + " sum");
    });
  }
}

TYPED_TEST(CudaNorm, Backward) {
  using T = TypeParam;
  for (const NormCase& c : norm_cases()) {
    if (c.cols == 1 && c.centered) continue;  // the gradient is 0 up to cancellation
    const auto count = static_cast<size_t>(c.rows * c.cols), cols = static_cast<size_t>(c.cols);
    const auto rows = static_cast<size_t>(c.rows);
    const auto x = random_values<T>(count, 1, 2.0f), grad_out = random_values<T>(count, 2);
    const auto grad_sum = random_values<T>(count, 3), weight = random_values<T>(cols, 4);
    const auto weight_start = random_values<float>(cols, 5), bias_start = random_values<float>(cols, 6);
    const bool accumulate = c.in_place;
    std::vector<float> mean, rstd;
    std::vector<double> grad_x(count), grad_weight(cols), grad_bias(cols);
    for (size_t i = 0; i < cols && accumulate; ++i) {
      grad_weight[i] = weight_start[i];
      grad_bias[i] = bias_start[i];
    }
    for (size_t r = 0; r < rows; ++r) {
      double m = 0, squares = 0;
      const size_t at = r * cols;
      for (size_t i = 0; i < cols; ++i) m += value_of(x[at + i]) / static_cast<double>(cols);
      if (!c.centered) m = 0;
      for (size_t i = 0; i < cols; ++i) squares += std::pow(value_of(x[at + i]) - m, 2);
      mean.push_back(static_cast<float>(m));
      rstd.push_back(static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(cols) + 1e-5)));
      // dx = r (g - mean(g) - h mean(g h)), from the Jacobian of the normalisation.
      double mean_g = 0, mean_gh = 0;
      std::vector<double> g(cols), h(cols);
      for (size_t i = 0; i < cols; ++i) {
        h[i] = (value_of(x[at + i]) - mean[r]) * rstd[r];
        g[i] = value_of(grad_out[at + i]) * (c.affine ? value_of(weight[i]) + c.weight_offset : 1.0);
        mean_g += g[i] / static_cast<double>(cols);
        mean_gh += g[i] * h[i] / static_cast<double>(cols);
        grad_weight[i] += value_of(grad_out[at + i]) * h[i];
        grad_bias[i] += value_of(grad_out[at + i]);
      }
      for (size_t i = 0; i < cols; ++i) {
        grad_x[at + i] = rstd[r] * (g[i] - (c.centered ? mean_g : 0.0) - h[i] * mean_gh) +
                         (c.residual ? value_of(grad_sum[at + i]) : 0.0);
      }
    }
    std::vector<float> first_weight;
    for_seeds([&] {
      EmulatedArray<T> dx(x), dgrad_out(grad_out), dgrad_sum(grad_sum), dweight(weight), dgrad_x(count);
      EmulatedArray<float> dmean(mean), drstd(rstd), dgrad_weight(weight_start), dgrad_bias(bias_start);
      NormBackwardArgs args{};
      args.grad_out = dgrad_out.data();
      args.grad_sum = c.residual ? dgrad_sum.data() : nullptr;
      args.x = dx.data();
      args.weight = c.affine ? dweight.data() : nullptr;
      args.mean = c.centered ? dmean.data() : nullptr;
      args.rstd = drstd.data();
      args.grad_x = c.in_place ? dgrad_out.data() : dgrad_x.data();
      args.grad_weight = dgrad_weight.data();
      args.grad_bias = c.centered ? dgrad_bias.data() : nullptr;
      args.rows = c.rows;
      args.cols = c.cols;
      args.weight_offset = c.weight_offset;
      args.accumulate = accumulate;
      run_row<T>(c.centered ? &KernelTable::layer_norm_backward : &KernelTable::rms_norm_backward, args);
      const double relative = c.cols == 1 ? 1e-3 : 2e-5;
      expect_close((c.in_place ? dgrad_out : dgrad_x).host(), grad_x, describe(c) + " grad_x", relative);
      expect_close(dgrad_weight.host(), grad_weight, describe(c) + " grad_weight", 1e-5, 10.0);
      if (c.centered) expect_close(dgrad_bias.host(), grad_bias, describe(c) + " grad_bias", 1e-5, 10.0);
      if (first_weight.empty()) first_weight = dgrad_weight.host();
      expect_same_bytes(dgrad_weight.host(), first_weight, describe(c) + " does not depend on the schedule");
    });
  }
}

TYPED_TEST(CudaNorm, BackwardOfRowsTooLongForSharedMemory) {
  using T = TypeParam;
  const size_t cols = 26000, rows = 2;
  const auto x = random_values<T>(rows * cols, 1), grad_out = random_values<T>(rows * cols, 2);
  std::vector<float> rstd;
  std::vector<double> grad_weight(cols);
  for (size_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (size_t i = 0; i < cols; ++i) squares += std::pow(value_of(x[r * cols + i]), 2);
    rstd.push_back(static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(cols))));
    for (size_t i = 0; i < cols; ++i) {
      grad_weight[i] += value_of(grad_out[r * cols + i]) * value_of(x[r * cols + i]) * rstd[r];
    }
  }
  EmulatedArray<T> dx(x), dgrad_out(grad_out), dgrad_x(rows * cols);
  EmulatedArray<float> drstd(rstd), dgrad_weight(cols);
  NormBackwardArgs args{};
  args.grad_out = dgrad_out.data();
  args.x = dx.data();
  args.rstd = drstd.data();
  args.grad_x = dgrad_x.data();
  args.grad_weight = dgrad_weight.data();
  args.rows = rows;
  args.cols = cols;
  run_row<T>(&KernelTable::rms_norm_backward, args);
  expect_close(dgrad_weight.host(), grad_weight, "grad_weight");
}

}  // namespace
}  // namespace ondol
