// lamb, adafactor: updates that depend on norms of a whole tensor. Sums over a row are one thread's, sums of rows are
// added in their order, so that the number of threads changes nothing.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

int64_t row_grain(int64_t cols) { return cols >= 8192 ? 1 : 8192 / (cols + 1) + 1; }

double total(const double* values, int64_t count) {
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) sum += values[i];
  return sum;
}

/// Sums of f(i) over blocks of 64 elements in f32, the blocks in double.
template <class Function>
double row_sum(int64_t begin, int64_t cols, const Function& f) {
  double sum = 0.0;
  for (int64_t block = begin; block < begin + cols; block += 64) {
    const int64_t end = block + 64 < begin + cols ? block + 64 : begin + cols;
    float part = 0.0f;
    for (int64_t i = block; i < end; ++i) part += f(i);
    sum += static_cast<double>(part);
  }
  return sum;
}

void store(float* param, bfloat16* low_precision, int64_t i, float value) {
  param[i] = value;
  if (low_precision != nullptr) low_precision[i] = bfloat16(value);
}

void lamb(const LambArgs& args, Stream) {
  if (args.scalars->skip != 0) return;
  const double step = static_cast<double>(args.scalars->step);
  const auto inverse1 = static_cast<float>(1.0 / (1.0 - __builtin_pow(static_cast<double>(args.beta1), step)));
  const auto inverse2 = static_cast<float>(1.0 / (1.0 - __builtin_pow(static_cast<double>(args.beta2), step)));
  const float grad_scale = args.scalars->grad_scale;
  const auto direction = [&](int64_t i) {
    const float root = __builtin_sqrtf(args.exp_avg_sq[i] * inverse2);
    return args.exp_avg[i] * inverse1 / (root + args.eps) + args.weight_decay * args.param[i];
  };
  parallel_for(args.rows, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const int64_t begin = row * args.cols;
      for (int64_t i = begin; i < begin + args.cols; ++i) {
        const float g = args.grad[i] * grad_scale;
        args.exp_avg[i] = args.beta1 * args.exp_avg[i] + (1.0f - args.beta1) * g;
        args.exp_avg_sq[i] = args.beta2 * args.exp_avg_sq[i] + (1.0f - args.beta2) * g * g;
      }
      args.sums[row] = row_sum(begin, args.cols, [&](int64_t i) { return args.param[i] * args.param[i]; });
      args.sums[args.rows + row] = row_sum(begin, args.cols, [&](int64_t i) {
        const float u = direction(i);
        return u * u;
      });
    }
  });
  const double weight = __builtin_sqrt(total(args.sums, args.rows));
  const double update = __builtin_sqrt(total(args.sums + args.rows, args.rows));
  const double ratio = weight > 0.0 && update > 0.0 ? weight / update : 1.0;
  const auto rate = static_cast<float>(ratio * args.scalars->learning_rate * args.rate_scale);
  parallel_for(args.rows, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t i = first * args.cols; i < last * args.cols; ++i) {
      store(args.param, args.low_precision, i, args.param[i] - rate * direction(i));
    }
  });
}

/// What all elements of a step share.
struct AdafactorFactors {
  float keep, fresh;  // of the second moment: b2, 1 - b2
  double rate;        // without the parameter's scale
};

AdafactorFactors factors_of(const AdafactorArgs& args) {
  const double t = static_cast<double>(args.scalars->step);
  const double fresh = __builtin_pow(t, static_cast<double>(args.decay));
  double rate = args.scalars->learning_rate;
  if (args.relative_step) {
    const double most = args.warmup_init ? 1e-6 * t : 1e-2, root = 1.0 / __builtin_sqrt(t);
    rate = most < root ? most : root;
  }
  return {static_cast<float>(1.0 - fresh), static_cast<float>(fresh), rate * args.rate_scale};
}

void update_columns(const AdafactorArgs& args, const AdafactorFactors& f) {
  const float grad_scale = args.scalars->grad_scale;
  constexpr int64_t kColumns = 64;
  parallel_for((args.cols + kColumns - 1) / kColumns, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * kColumns;
      const int64_t count = args.cols - begin < kColumns ? args.cols - begin : kColumns;
      double sums[kColumns] = {};
      for (int64_t row = 0; row < args.rows; ++row) {
        const float* grad = args.grad + row * args.cols + begin;
        for (int64_t i = 0; i < count; ++i) {
          const float g = grad[i] * grad_scale;
          sums[i] += static_cast<double>(g * g + args.eps1);
        }
      }
      for (int64_t i = 0; i < count; ++i) {
        const auto mean = static_cast<float>(sums[i] / static_cast<double>(args.rows));
        args.column[begin + i] = f.keep * args.column[begin + i] + f.fresh * mean;
      }
    }
  });
}

void adafactor(const AdafactorArgs& args, Stream) {
  if (args.scalars->skip != 0) return;
  const AdafactorFactors f = factors_of(args);
  const float grad_scale = args.scalars->grad_scale;
  const bool factored = args.column != nullptr;
  const int64_t rows = args.rows, cols = args.cols;
  const double count = static_cast<double>(rows) * static_cast<double>(cols);
  parallel_for(rows, row_grain(cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      const int64_t begin = row * cols;
      args.sums[row] = row_sum(begin, cols, [&](int64_t i) { return args.param[i] * args.param[i]; });
      const auto square = [&](int64_t i) {
        const float g = args.grad[i] * grad_scale;
        return g * g + args.eps1;
      };
      if (factored) {
        const auto mean = static_cast<float>(row_sum(begin, cols, square) / static_cast<double>(cols));
        args.row[row] = f.keep * args.row[row] + f.fresh * mean;
      } else {
        for (int64_t i = 0; i < cols; ++i) args.row[i] = f.keep * args.row[i] + f.fresh * square(i);
      }
    }
  });
  float mean_row = 1.0f;
  if (factored) {
    update_columns(args, f);
    double sum = 0.0;
    for (int64_t row = 0; row < rows; ++row) sum += static_cast<double>(args.row[row]);
    mean_row = static_cast<float>(sum / static_cast<double>(rows));
  }
  const auto direction = [&](int64_t row, int64_t i) {
    const float g = args.grad[i] * grad_scale;
    if (!factored) return g / __builtin_sqrtf(args.row[i]);
    return g / __builtin_sqrtf(args.row[row] / mean_row) / __builtin_sqrtf(args.column[i - row * cols]);
  };
  parallel_for(rows, row_grain(cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      args.sums[rows + row] = row_sum(row * cols, cols, [&](int64_t i) {
        const float u = direction(row, i);
        return u * u;
      });
    }
  });
  double rate = f.rate;
  if (args.scale_parameter) {
    const double rms = __builtin_sqrt(total(args.sums, rows) / count), least = static_cast<double>(args.eps2);
    rate *= rms > least ? rms : least;
  }
  const double update_rms = __builtin_sqrt(total(args.sums + rows, rows) / count) / static_cast<double>(args.clip);
  const auto step_size = static_cast<float>(rate / (update_rms > 1.0 ? update_rms : 1.0));
  const float kept = 1.0f - static_cast<float>(rate) * args.weight_decay;
  parallel_for(rows, row_grain(cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for (int64_t i = row * cols; i < (row + 1) * cols; ++i) {
        float u = step_size * direction(row, i);
        if (args.exp_avg != nullptr) {
          u = args.beta1 * args.exp_avg[i] + (1.0f - args.beta1) * u;
          args.exp_avg[i] = u;
        }
        store(args.param, args.low_precision, i, args.param[i] * kept - u);
      }
    }
  });
}

}  // namespace

void add_tensor_optimizer_rows(KernelTable& table) {
  table.lamb.set(DType::f32, lamb);
  table.adafactor.set(DType::f32, adafactor);
}

}  // namespace ondol::cpu::ONDOL_ISA
