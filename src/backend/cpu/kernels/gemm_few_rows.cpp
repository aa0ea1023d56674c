#include "backend/cpu/kernels/gemm_few_rows.h"

#include "backend/cpu/kernels/gemm_epilogue.h"
#include "backend/cpu/kernels/pack.h"
#include "backend/cpu/kernels/tasks.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {

constexpr int64_t kStrip = 512;     // columns whose sums stay in the first-level cache
constexpr int64_t kRowsAtOnce = 4;  // rows of b per pass over those sums
constexpr int64_t kRowsAhead = 12;  // prefetched: each row may start a new page

/// Rows of a as f32 with contiguous k.
struct Rows {
  const float* a;
  int64_t stride;
};

template <class T>
Rows float_rows_of_a(const GemmArgs& args, const T* a) {
  if constexpr (sizeof(T) == 4) {
    if (!args.trans_a) return {a, args.lda};
  }
  float* out = static_cast<float*>(
      thread_scratch(ScratchSlot::packed_a, static_cast<size_t>(args.m * args.k + 1) * sizeof(float)));
  if (args.trans_a) {
    pack_transposed(a, args.lda, args.m, args.k, args.k, out, args.k);
  } else {
    pack_rows(a, args.lda, args.m, args.k, args.k, out, 0);
  }
  return {out, args.k};
}

/// kLanes columns of c, that is kLanes rows of the transposed b: square blocks of b are turned in registers.
template <class T, int kRows>
struct TransposedColumns {
  const GemmArgs& args;
  Rows rows;
  const T* b;
  int64_t depth;

  static constexpr int64_t kStep = kLanes * static_cast<int64_t>(sizeof(float) / sizeof(T));

  void add_block(const T* source, int64_t present, int64_t count, int64_t l, Floats (&sum)[kRows]) const {
    Floats block[kLanes];
    if (present == kLanes && count == kStep) {
      const int64_t next = kLanes * args.ldb;  // the same place in the next columns
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        __builtin_prefetch(source + next + i * args.ldb, 0, 2);
        block[i] = load_words(source + i * args.ldb);
      }
    } else {
      for (int i = 0; i < kLanes; ++i) {
        alignas(64) T line[kStep] = {};
        for (int64_t x = 0; x < count && i < present; ++x) line[x] = source[i * args.ldb + x];
        block[i] = load_words(line);
      }
    }
    transpose_block(block);
    if (count == kStep) {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) add_word(block[i], l, i, kStep, sum);
    } else {
      for (int i = 0; i < kLanes; ++i) add_word(block[i], l, i, count, sum);
    }
  }

  /// A word holds one element of k (f32) or two neighbours (bf16).
  void add_word(Floats word, int64_t l, int64_t i, int64_t count, Floats (&sum)[kRows]) const {
    if constexpr (sizeof(T) == 4) {
      if (i < count) add_element(word, l + i, sum);
    } else {
      if (2 * i < count) add_element(lower_bf16(word), l + 2 * i, sum);
      if (2 * i + 1 < count) add_element(upper_bf16(word), l + 2 * i + 1, sum);
    }
  }

  void add_element(Floats column, int64_t l, Floats (&sum)[kRows]) const {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r] = fma(splat(rows.a[r * rows.stride + l]), column, sum[r]);
  }

  void run(int64_t index, int64_t begin, int64_t end) const {
    for (int64_t col = begin; col < end; col += kLanes) {
      const int64_t present = smaller(kLanes, args.n - col);
      Floats total[kRows];
      for (int r = 0; r < kRows; ++r) total[r] = splat(0.0f);
      for (int64_t k = 0; k < args.k; k += depth) {
        const int64_t k_end = smaller(k + depth, args.k);
        Floats sum[kRows];
        for (int r = 0; r < kRows; ++r) sum[r] = splat(0.0f);
        for (int64_t l = k; l < k_end; l += kStep) {
          add_block(b + col * args.ldb + l, present, smaller(kStep, k_end - l), l, sum);
        }
        for (int r = 0; r < kRows; ++r) total[r] = k == 0 ? sum[r] : total[r] + sum[r];
      }
      alignas(64) float tile[kRows * kLanes];
      for (int r = 0; r < kRows; ++r) store(tile + r * kLanes, total[r]);
      finish_block<T>(args, index, 0, col, kRows, present, tile, kLanes);
    }
  }
};

/// A strip of columns of a row-major b: a few rows of b at a time are added to sums that stay in cache.
template <class T, int kRows>
struct RowMajorColumns {
  const GemmArgs& args;
  Rows rows;
  const T* b;
  int64_t depth;

  template <int kCount>
  void add_rows(int64_t l, int64_t col, int64_t width, float* sums) const {
    const T* source = b + l * args.ldb + col;
    for_each_vector(width, [&](int64_t j, auto n) {
      Floats value[kCount];
      for (int x = 0; x < kCount; ++x) {
        __builtin_prefetch(source + (x + kRowsAhead) * args.ldb + j);
        value[x] = load_lanes(source + x * args.ldb + j, n);
      }
      for (int r = 0; r < kRows; ++r) {
        Floats sum = load(sums + r * kStrip + j);
        for (int x = 0; x < kCount; ++x) sum = fma(splat(rows.a[r * rows.stride + l + x]), value[x], sum);
        store(sums + r * kStrip + j, sum);
      }
    });
  }

  void run(int64_t index, int64_t begin, int64_t end) const {
    alignas(64) float sums[kRows * kStrip];
    alignas(64) float totals[kRows * kStrip];
    for (int64_t col = begin; col < end; col += kStrip) {
      const int64_t width = smaller(kStrip, end - col);
      for (int64_t k = 0; k == 0 || k < args.k; k += depth) {
        const int64_t k_end = smaller(k + depth, args.k);
        for (int r = 0; r < kRows; ++r) {
          for (int64_t j = 0; j < width; j += kLanes) store(sums + r * kStrip + j, splat(0.0f));
        }
        int64_t l = k;
        for (; l + kRowsAtOnce <= k_end; l += kRowsAtOnce) add_rows<kRowsAtOnce>(l, col, width, sums);
        for (; l < k_end; ++l) add_rows<1>(l, col, width, sums);
        for (int r = 0; r < kRows; ++r) {
          for (int64_t j = 0; j < width; j += kLanes) {
            const int64_t at = r * kStrip + j;
            store(totals + at, k == 0 ? load(sums + at) : load(totals + at) + load(sums + at));
          }
        }
      }
      finish_block<T>(args, index, 0, col, kRows, width, totals, kStrip);
    }
  }
};

struct Split {
  int64_t depth;  // of the blocks of k
  int64_t workers;
};

template <template <class, int> class Columns, class T, int kRows>
void multiply(const GemmArgs& args, int64_t index, Rows rows, Split split) {
  const Columns<T, kRows> columns{args, rows, static_cast<const T*>(args.b) + index * args.stride_b, split.depth};
  if (split.workers == 1) return columns.run(index, 0, args.n);
  const int64_t share = larger(4 * kLanes, round_up(ceil_div(args.n, 8 * split.workers), 4 * kLanes));
  run_tasks(ceil_div(args.n, share), split.workers, [&] {
    return [&](int64_t task) { columns.run(index, task * share, smaller((task + 1) * share, args.n)); };
  });
}

template <template <class, int> class Columns, class T>
void multiply_rows(const GemmArgs& args, int64_t index, Rows rows, Split split) {
  switch (args.m) {
    case 1:
      return multiply<Columns, T, 1>(args, index, rows, split);
    case 2:
      return multiply<Columns, T, 2>(args, index, rows, split);
    case 3:
      return multiply<Columns, T, 3>(args, index, rows, split);
    case 4:
      return multiply<Columns, T, 4>(args, index, rows, split);
    case 5:
      return multiply<Columns, T, 5>(args, index, rows, split);
    case 6:
      return multiply<Columns, T, 6>(args, index, rows, split);
    case 7:
      return multiply<Columns, T, 7>(args, index, rows, split);
    default:
      return multiply<Columns, T, 8>(args, index, rows, split);
  }
}

template <class T>
void multiply_either(const GemmArgs& args, int64_t index, Rows rows, Split split) {
  if (args.trans_b) {
    multiply_rows<TransposedColumns, T>(args, index, rows, split);
  } else {
    multiply_rows<RowMajorColumns, T>(args, index, rows, split);
  }
}

}  // namespace

template <class T>
void multiply_few_rows(const GemmArgs& args, int64_t index, int64_t depth, int64_t workers) {
  const Rows rows = float_rows_of_a(args, static_cast<const T*>(args.a) + index * args.stride_a);
  multiply_either<T>(args, index, rows, {depth, workers});
}

template <class T>
void multiply_float_rows(const GemmArgs& args) {
  multiply_either<T>(args, 0, {static_cast<const float*>(args.a), args.lda}, {larger(args.k, 1), 1});
}

template void multiply_few_rows<float>(const GemmArgs&, int64_t, int64_t, int64_t);
template void multiply_few_rows<bfloat16>(const GemmArgs&, int64_t, int64_t, int64_t);
template void multiply_float_rows<float>(const GemmArgs&);
template void multiply_float_rows<bfloat16>(const GemmArgs&);

}  // namespace ondol::cpu::ONDOL_ISA
