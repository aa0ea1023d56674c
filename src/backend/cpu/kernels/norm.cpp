// rms_norm, layer_norm and their backwards, over contiguous rows.
//
// Forward: s = x + residual is rounded to the data type first, so that what is normalised is what is stored.
// Backward, with xhat = (s - mean) * rstd and h = grad_out * weight:
//   grad_s = rstd * (h - mean(h) - xhat * mean(h * xhat)) + grad_sum      (RMSNorm: without mean and mean(h))
//   grad_weight = sum over rows of grad_out * xhat, grad_bias = sum over rows of grad_out
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/scratch.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

thread_local Scratch scratch;

/// The value as it will be read back from memory of type T.
template <class T>
Floats rounded(Floats value) {
  if constexpr (sizeof(T) == 2) {
    T memory[kLanes];
    store(memory, value);
    return load(memory);
  } else {
    return value;
  }
}

template <class T, bool kLayerNorm>
void norm_row(const NormArgs& args, int64_t row) {
  const int64_t cols = args.cols;
  const T* x = static_cast<const T*>(args.x) + row * cols;
  T* out = static_cast<T*>(args.out) + row * cols;
  Floats sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  if (args.residual != nullptr) {
    const T* residual = static_cast<const T*>(args.residual) + row * cols;
    T* sum = static_cast<T*>(args.sum) + row * cols;
    accumulate_row(cols, sums, [&](Floats total, int64_t i, auto n) {
      const Floats s = rounded<T>(load_lanes(x + i, n) + load_lanes(residual + i, n));
      store_lanes(sum + i, s, n);
      return kLayerNorm ? total + s : fma(s, s, total);
    });
    x = sum;
  } else {
    accumulate_row(cols, sums, [&](Floats total, int64_t i, auto n) {
      const Floats s = load_lanes(x + i, n);
      return kLayerNorm ? total + s : fma(s, s, total);
    });
  }
  const float inverse = 1.0f / static_cast<float>(cols);
  float mean = 0.0f;
  float square = sum_of_four(sums) * inverse;
  if constexpr (kLayerNorm) {
    mean = square;
    Floats squares[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    accumulate_row(cols, squares, [&](Floats total, int64_t i, auto n) {
      const Floats centered = keep_lanes(load_lanes(x + i, n) - splat(mean), splat(0.0f), n);
      return fma(centered, centered, total);
    });
    square = sum_of_four(squares) * inverse;
    if (args.mean != nullptr) args.mean[row] = mean;
  }
  const float rstd = 1.0f / __builtin_sqrtf(square + args.eps);
  if (args.rstd != nullptr) args.rstd[row] = rstd;
  const T* weight = static_cast<const T*>(args.weight);
  const T* bias = static_cast<const T*>(args.bias);
  const Floats offset = splat(args.weight_offset), scale = splat(rstd), center = splat(mean);
  for_each_vector(cols, [&](int64_t i, auto n) {
    Floats y = load_lanes(x + i, n);
    if constexpr (kLayerNorm) y = y - center;
    y = y * scale;
    if (weight != nullptr) y = y * (load_lanes(weight + i, n) + offset);
    if (bias != nullptr) y = y + load_lanes(bias + i, n);
    store_lanes(out + i, y, n);
  });
}

template <class T, bool kLayerNorm>
void norm(const NormArgs& args, Stream) {
  if (args.cols == 0) return;
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) norm_row<T, kLayerNorm>(args, row);
  });
}

/// Writes grad_x of one row and adds the row's part to weight_sum and bias_sum (null when not wanted).
template <class T, bool kLayerNorm>
void norm_backward_row(const NormBackwardArgs& args, int64_t row, float* weight_sum, float* bias_sum) {
  const int64_t cols = args.cols;
  const T* grad_out = static_cast<const T*>(args.grad_out) + row * cols;
  const T* x = static_cast<const T*>(args.x) + row * cols;
  const T* weight = static_cast<const T*>(args.weight);
  T* grad_x = static_cast<T*>(args.grad_x) + row * cols;
  const Floats rstd = splat(args.rstd[row]), offset = splat(args.weight_offset);
  const Floats mean = splat(kLayerNorm ? args.mean[row] : 0.0f);
  const auto normalized = [&](int64_t i, auto n) {
    const Floats value = load_lanes(x + i, n);
    return (kLayerNorm ? value - mean : value) * rstd;
  };
  const auto weighted = [&](int64_t i, auto n, Floats g) {
    return weight == nullptr ? g : g * (load_lanes(weight + i, n) + offset);
  };
  Floats dots[2] = {splat(0.0f), splat(0.0f)}, totals[2] = {splat(0.0f), splat(0.0f)};
  const auto first_pass = [&](int64_t i, auto n, int lane) {
    // The gradient is 0 beyond the end of the row, and with it every term.
    const Floats g = load_lanes(grad_out + i, n), xhat = normalized(i, n), h = weighted(i, n, g);
    dots[lane] = fma(h, xhat, dots[lane]);
    if constexpr (kLayerNorm) totals[lane] = totals[lane] + h;
    if (weight_sum != nullptr) store_lanes(weight_sum + i, fma(g, xhat, load_lanes(weight_sum + i, n)), n);
    if (bias_sum != nullptr) store_lanes(bias_sum + i, load_lanes(bias_sum + i, n) + g, n);
  };
  int64_t i = 0;
  for (; i + 2 * kLanes <= cols; i += 2 * kLanes) {
    first_pass(i, AllLanes{}, 0);
    first_pass(i + kLanes, AllLanes{}, 1);
  }
  for_each_vector(i, cols, [&](int64_t at, auto n) { first_pass(at, n, 0); });
  const float inverse = 1.0f / static_cast<float>(cols);
  const Floats dot = splat(reduce_sum(dots[0] + dots[1]) * inverse);
  const Floats total = splat(kLayerNorm ? reduce_sum(totals[0] + totals[1]) * inverse : 0.0f);
  const T* grad_sum = args.grad_sum == nullptr ? nullptr : static_cast<const T*>(args.grad_sum) + row * cols;
  for_each_vector(cols, [&](int64_t at, auto n) {
    Floats h = weighted(at, n, load_lanes(grad_out + at, n));
    if constexpr (kLayerNorm) h = h - total;
    h = (h - normalized(at, n) * dot) * rstd;
    if (grad_sum != nullptr) h = h + load_lanes(grad_sum + at, n);
    store_lanes(grad_x + at, h, n);
  });
}

/// target (+)= the sum of `groups` partial rows, in order.
void add_partials(const float* partial, int64_t groups, int64_t stride, int64_t cols, bool accumulate, float* target) {
  parallel_for(cols, 4096, [&](int64_t begin, int64_t end) {
    for_each_vector(begin, end, [&](int64_t i, auto n) {
      Floats sum = load_lanes(partial + i, n);
      for (int64_t group = 1; group < groups; ++group) sum = sum + load_lanes(partial + group * stride + i, n);
      store_lanes(target + i, accumulate ? load_lanes(target + i, n) + sum : sum, n);
    });
  });
}

/// Groups of rows, their number a function of the shape, each with its own partial sums for the weights.
template <class T, bool kLayerNorm>
void norm_backward(const NormBackwardArgs& args, Stream) {
  constexpr int64_t kMaxGroups = 64;
  if (args.cols == 0) return;
  const bool sums = args.grad_weight != nullptr || args.grad_bias != nullptr;
  if (!sums) {
    parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) norm_backward_row<T, kLayerNorm>(args, row, nullptr, nullptr);
    });
    return;
  }
  const int64_t even_share = (args.rows + kMaxGroups - 1) / kMaxGroups;
  const int64_t group_rows = even_share > rows_per_piece(args.cols) ? even_share : rows_per_piece(args.cols);
  const int64_t groups = args.rows == 0 ? 1 : (args.rows + group_rows - 1) / group_rows;
  const int64_t stride = (args.cols + 15) / 16 * 16;
  float* partial = scratch.get<float>(groups * 2 * stride);
  float* weight_partial = args.grad_weight != nullptr ? partial : nullptr;
  float* bias_partial = args.grad_bias != nullptr ? partial + stride : nullptr;
  __builtin_memset(partial, 0, static_cast<size_t>(groups * 2 * stride) * sizeof(float));
  parallel_for(groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      float* weight_sum = weight_partial == nullptr ? nullptr : weight_partial + group * 2 * stride;
      float* bias_sum = bias_partial == nullptr ? nullptr : bias_partial + group * 2 * stride;
      const int64_t row_end = (group + 1) * group_rows < args.rows ? (group + 1) * group_rows : args.rows;
      for (int64_t row = group * group_rows; row < row_end; ++row) {
        norm_backward_row<T, kLayerNorm>(args, row, weight_sum, bias_sum);
      }
    }
  });
  if (args.grad_weight != nullptr) {
    add_partials(weight_partial, groups, 2 * stride, args.cols, args.accumulate, args.grad_weight);
  }
  if (args.grad_bias != nullptr) {
    add_partials(bias_partial, groups, 2 * stride, args.cols, args.accumulate, args.grad_bias);
  }
}

}  // namespace

void add_norm_rows(KernelTable& table) {
  table.rms_norm.set(DType::f32, norm<float, false>);
  table.rms_norm.set(DType::bf16, norm<bfloat16, false>);
  table.layer_norm.set(DType::f32, norm<float, true>);
  table.layer_norm.set(DType::bf16, norm<bfloat16, true>);
  table.rms_norm_backward.set(DType::f32, norm_backward<float, false>);
  table.rms_norm_backward.set(DType::bf16, norm_backward<bfloat16, false>);
  table.layer_norm_backward.set(DType::f32, norm_backward<float, true>);
  table.layer_norm_backward.set(DType::bf16, norm_backward<bfloat16, true>);
}

}  // namespace ondol::cpu::ONDOL_ISA
