// reduce (sum, mean, max over the middle of (outer, reduced, inner)), argmax, block_squares, sum_all. The order of
// every sum follows from the shape alone.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/column_sums.h"
#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

thread_local Scratch scratch;

constexpr int64_t kRowPiece = 32768;  // a longer row is summed in pieces, which threads share

void write(const ReduceArgs& args, int64_t index, float value) {
  if (args.kind == ReduceKind::mean) value /= static_cast<float>(args.reduced);
  if (args.out_dtype == DType::f32) {
    float* out = static_cast<float*>(args.out) + index;
    *out = args.accumulate ? *out + value : value;
  } else {
    store_n(static_cast<bfloat16*>(args.out) + index, splat(value), 1);
  }
}

template <class T>
float row_max_or_nan(const T* in, int64_t count) {
  const Floats lowest = splat(-__builtin_inff());
  Floats best[4] = {lowest, lowest, lowest, lowest};
  Mask nan = is_nan(lowest);
  accumulate_row(count, best, [&](Floats largest, int64_t i, auto n) {
    const Floats value = keep_lanes(load_lanes(in + i, n), lowest, n);
    nan = nan | is_nan(value);
    return max(largest, value);
  });
  if (any(nan)) return __builtin_nanf("");
  return reduce_max(max(max(best[0], best[1]), max(best[2], best[3])));
}

/// inner == 1: each result from one contiguous row.
template <class T>
void reduce_rows(const ReduceArgs& args) {
  const T* in = static_cast<const T*>(args.in);
  const bool is_max = args.kind == ReduceKind::max;
  const int64_t pieces = (args.reduced + kRowPiece - 1) / kRowPiece;
  if (pieces <= 1) {
    parallel_for(args.outer, rows_per_piece(args.reduced), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* values = in + row * args.reduced;
        write(args, row, is_max ? row_max_or_nan(values, args.reduced) : row_sum(values, args.reduced));
      }
    });
    return;
  }
  float* partial = scratch.get<float>(args.outer * pieces);
  parallel_for(args.outer * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % pieces * kRowPiece;
      const int64_t count = args.reduced - first < kRowPiece ? args.reduced - first : kRowPiece;
      const T* values = in + i / pieces * args.reduced + first;
      partial[i] = is_max ? row_max_or_nan(values, count) : row_sum(values, count);
    }
  });
  for (int64_t row = 0; row < args.outer; ++row) {
    const float* values = partial + row * pieces;
    write(args, row, is_max ? row_max_or_nan(values, pieces) : row_sum(values, pieces));
  }
}

/// inner > 1: columns of a matrix for each outer index.
template <class T, class Kind>
void reduce_columns(const ReduceArgs& args) {
  const T* in = static_cast<const T*>(args.in);
  const int64_t rows = args.reduced, cols = args.inner;
  const Floats divisor = splat(args.kind == ReduceKind::mean ? static_cast<float>(rows) : 1.0f);
  fold_columns<Kind>(
      args.outer, rows, cols, scratch,
      [&](int64_t o, int64_t row, int64_t c, auto n) { return load_lanes(in + (o * rows + row) * cols + c, n); },
      [&](int64_t o, int64_t c, auto n, Floats result) {
        result = result / divisor;
        if (args.out_dtype == DType::f32) {
          float* out = static_cast<float*>(args.out) + o * cols + c;
          store_lanes(out, args.accumulate ? load_lanes(out, n) + result : result, n);
        } else {
          store_lanes(static_cast<bfloat16*>(args.out) + o * cols + c, result, n);
        }
      });
}

template <class T>
void reduce(const ReduceArgs& args, Stream) {
  if (args.outer == 0 || args.inner == 0) return;
  if (args.inner == 1) {
    reduce_rows<T>(args);
  } else if (args.kind == ReduceKind::max) {
    reduce_columns<T, RowMax>(args);
  } else {
    reduce_columns<T, RowSum>(args);
  }
}

template <class T>
void argmax(const ArgmaxArgs& args, Stream) {
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* in = static_cast<const T*>(args.in) + row * args.cols;
      const float best = row_max_or_nan(in, args.cols);  // a NaN counts as the largest
      int64_t at = 0;
      for (; at + kLanes <= args.cols; at += kLanes) {
        const Floats value = load(in + at);
        if (any((value == splat(best)) | is_nan(value))) break;
      }
      while (at < args.cols - 1 && !(static_cast<float>(in[at]) == best) &&
             static_cast<float>(in[at]) == static_cast<float>(in[at])) {
        ++at;
      }
      args.index[row] = static_cast<int32_t>(at < args.cols ? at : 0);
    }
  });
}

constexpr int kSums = 32;  // side by side

double add_sums(double (&sums)[kSums]) {
  for (int width = kSums / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) sums[j] += sums[j + width];
  }
  return sums[0];
}

double squares_of_block(const float* in, int64_t count) {
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int j = 0; j < kSums; ++j) {
      const double value = static_cast<double>(in[i + j]);
      sums[j] += value * value;
    }
  }
  for (int j = 0; i + j < count; ++j) sums[j] += static_cast<double>(in[i + j]) * static_cast<double>(in[i + j]);
  return add_sums(sums);
}

void block_squares(const BlockSquaresArgs& args, Stream) {
  constexpr int64_t kBlock = BlockSquaresArgs::kBlock;
  const int64_t blocks = (args.count + kBlock - 1) / kBlock;
  parallel_for(blocks, 128, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t left = args.count - b * kBlock;
      args.out[b] = squares_of_block(args.in + b * kBlock, left < kBlock ? left : kBlock);
    }
  });
}

double sum_of_piece(const double* in, int64_t count) {
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int j = 0; j < kSums; ++j) sums[j] += in[i + j];
  }
  for (int j = 0; i + j < count; ++j) sums[j] += in[i + j];
  return add_sums(sums);
}

void sum_all(const SumAllArgs& args, Stream) {
  constexpr int64_t kMaxPieces = 1024;
  double partial[kMaxPieces];
  const int64_t even_share = (args.count + kMaxPieces - 1) / kMaxPieces;
  const int64_t piece = even_share > 16384 ? even_share : 16384;
  const int64_t pieces = (args.count + piece - 1) / piece;
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * piece;
      partial[i] = sum_of_piece(args.in + first, args.count - first < piece ? args.count - first : piece);
    }
  });
  double total = 0.0;
  for (int64_t i = 0; i < pieces; ++i) total += partial[i];
  *args.out = total;
}

}  // namespace

void add_reduce_rows(KernelTable& table) {
  table.reduce.set(DType::f32, reduce<float>);
  table.reduce.set(DType::bf16, reduce<bfloat16>);
  table.argmax.set(DType::f32, argmax<float>);
  table.argmax.set(DType::bf16, argmax<bfloat16>);
  table.block_squares.set(DType::f32, block_squares);
  table.sum_all.set(DType::f64, sum_all);
}

}  // namespace ondol::cpu::ONDOL_ISA
