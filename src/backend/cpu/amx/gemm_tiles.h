// The bf16 matrix product on matrix tiles (AMX), written against a small policy so that its packing and tiling can run,
// and are tested, with tiles in software on processors that have none.
//
// A policy has eight tiles of 16 rows of 64 bytes, numbered at compile time:
//   configure(), release()          for the calling thread, around its work
//   zero<t>(), load<t>(p, stride), store<t>(p, stride)   stride in bytes
//   dot<c, a, b>()                  c (16 x 16 f32) += a (16 x 32 bf16) b, b as 16 rows of 16 pairs along k
//
// Four tiles hold a block of 32 x 32 sums, two hold a and two hold b. b is packed into pairs along k (VNNI form), a is
// read where it lies when it is row-major and k a multiple of 32. Short ends of m, n and k are padded with zeros, which
// add nothing. An element of c is one chain over k in steps of 32: it depends on k alone, not on m, n or the threads,
// but not bit for bit equal to the f32 kernels.
#pragma once

#include <cstring>

#include "backend/cpu/kernels/gemm_epilogue.h"
#include "backend/cpu/kernels/pack_words.h"
#include "backend/cpu/kernels/tasks.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {

/// Out: 16 rows of 16 words, the columns of `cols` (at most 16) rows of in, each `depth` (at most 32) bf16 long.
inline void pack_pairs_transposed(const bfloat16* in, int64_t stride, int64_t cols, int64_t depth, bfloat16* out) {
  float* words = reinterpret_cast<float*>(out);
  for (int64_t col = 0; col < 16; col += kLanes) {
    for (int64_t pair = 0; pair < 16; pair += kLanes) {
      Floats block[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const int64_t from = 2 * pair, count = smaller(2 * kLanes, larger(depth - from, 0));
        if (col + i < cols && count == 2 * kLanes) {
          block[i] = load_words(in + (col + i) * stride + from);
        } else {
          alignas(64) bfloat16 line[2 * kLanes] = {};
          if (col + i < cols) std::memcpy(line, in + (col + i) * stride + from, static_cast<size_t>(count) * 2);
          block[i] = load_words(line);
        }
      }
      transpose_block(block);
      for (int64_t i = 0; i < kLanes; ++i) store(words + (pair + i) * 16 + col, block[i]);
    }
  }
}

/// kLanes words of pairs along k from rows along n: in (depth, cols) of which the rows 2 pair and 2 pair + 1 are taken
/// from column `col` on, zeros beyond the last row and column.
inline Floats pair_words(const bfloat16* in, int64_t stride, int64_t cols, int64_t depth, int64_t pair, int64_t col) {
  const int64_t present = smaller(kLanes, cols - col);
  const auto row = [&](int64_t k) {
    if (k >= depth || present <= 0) return splat(0.0f);
    const bfloat16* from = in + k * stride + col;
    return present == kLanes ? load(from) : load_n(from, present);
  };
  return join_bf16(row(2 * pair), row(2 * pair + 1));
}

/// The same as pack_pairs_transposed from rows along n: in (depth, cols), row stride given.
inline void pack_pairs(const bfloat16* in, int64_t stride, int64_t cols, int64_t depth, bfloat16* out) {
  float* words = reinterpret_cast<float*>(out);
  for (int64_t pair = 0; pair < 16; ++pair) {
    for (int64_t col = 0; col < 16; col += kLanes) {
      store(words + pair * 16 + col, pair_words(in, stride, cols, depth, pair, col));
    }
  }
}

/// Out: 16 rows of 32 bf16, the columns of in (depth, cols), zeros beyond the last.
inline void pack_columns(const bfloat16* in, int64_t stride, int64_t cols, int64_t depth, bfloat16* out) {
  float* words = reinterpret_cast<float*>(out);
  for (int64_t col = 0; col < 16; col += kLanes) {
    for (int64_t pair = 0; pair < 16; pair += kLanes) {
      Floats block[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) block[i] = pair_words(in, stride, cols, depth, pair + i, col);
      transpose_block(block);
      for (int64_t i = 0; i < kLanes; ++i) store(words + (col + i) * 16 + pair, block[i]);
    }
  }
}

template <class Tiles>
class TileProduct {
 public:
  static constexpr int64_t kBlock = 32;       // rows, columns and depth of a step
  static constexpr int64_t kChunk = 4096;     // bound of m and n between packing passes
  static constexpr int64_t kMaxDepth = 2048;  // bound of k: a panel of a or b takes 128 KiB of second-level cache

  TileProduct(const GemmArgs& args, int64_t index, int64_t workers)
      : args_(args),
        index_(index),
        workers_(workers),
        a_(static_cast<const bfloat16*>(args.a) + index * args.stride_a),
        b_(static_cast<const bfloat16*>(args.b) + index * args.stride_b),
        a_in_place_(!args.trans_a && args.k % kBlock == 0) {}

  void run() {
    for (int64_t col = 0; col < args_.n; col += kChunk) {
      for (int64_t row = 0; row < args_.m; row += kChunk) {
        row_begin_ = row;
        rows_ = smaller(kChunk, args_.m - row);
        col_begin_ = col;
        cols_ = smaller(kChunk, args_.n - col);
        row_panels_ = ceil_div(rows_, kBlock);
        col_panels_ = ceil_div(cols_, kBlock);
        sums_ = args_.k > kMaxDepth ? floats(ScratchSlot::partial_sums, row_panels_ * col_panels_ * kBlock * kBlock)
                                    : nullptr;
        for (int64_t k = 0; k == 0 || k < args_.k; k += kMaxDepth) {
          k_begin_ = k;
          k_end_ = smaller(k + kMaxDepth, args_.k);
          steps_ = ceil_div(k_end_ - k_begin_, kBlock);
          pack();
          multiply();
        }
      }
    }
  }

 private:
  static float* floats(ScratchSlot slot, int64_t count) {
    return static_cast<float*>(thread_scratch(slot, static_cast<size_t>(count + 16) * sizeof(float)));
  }

  int64_t panel_size() const { return steps_ * kBlock * kBlock; }
  bool in_place(int64_t row_panel) const { return a_in_place_ && (row_panel + 1) * kBlock <= rows_; }

  void pack() {
    packed_a_ = reinterpret_cast<bfloat16*>(floats(ScratchSlot::packed_a, row_panels_ * panel_size() / 2));
    packed_b_ = reinterpret_cast<bfloat16*>(floats(ScratchSlot::packed_b, col_panels_ * panel_size() / 2));
    const int64_t panels = row_panels_ + col_panels_;
    parallel_for(panels, workers_ == 1 ? panels : 1, [&](int64_t begin, int64_t end) {
      for (int64_t panel = begin; panel < end; ++panel) {
        if (panel >= row_panels_) {
          pack_b(panel - row_panels_);
        } else if (!in_place(panel)) {
          pack_a(panel);
        }
      }
    });
  }

  /// A panel of a: for each step two tiles of 16 rows of 32.
  void pack_a(int64_t panel) {
    const int64_t first = row_begin_ + panel * kBlock, count = smaller(kBlock, row_begin_ + rows_ - first);
    bfloat16* out = packed_a_ + panel * panel_size();
    for (int64_t step = 0; step < steps_; ++step, out += kBlock * kBlock) {
      const int64_t k = k_begin_ + step * kBlock, depth = smaller(kBlock, k_end_ - k);
      if (args_.trans_a) {
        const bfloat16* in = a_ + k * args_.lda + first;
        pack_columns(in, args_.lda, count, depth, out);
        pack_columns(in + 16, args_.lda, count - 16, depth, out + 16 * kBlock);
        continue;
      }
      std::memset(static_cast<void*>(out), 0, kBlock * kBlock * sizeof(bfloat16));
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(static_cast<void*>(out + i * kBlock), a_ + (first + i) * args_.lda + k,
                    static_cast<size_t>(depth) * sizeof(bfloat16));
      }
    }
  }

  /// A panel of b: for each step two tiles of 16 columns in pairs along k.
  void pack_b(int64_t panel) {
    bfloat16* out = packed_b_ + panel * panel_size();
    for (int64_t step = 0; step < steps_; ++step) {
      const int64_t k = k_begin_ + step * kBlock, depth = smaller(kBlock, k_end_ - k);
      for (int64_t half = 0; half < 2; ++half, out += kBlock * 16) {
        const int64_t first = panel * kBlock + half * 16, count = larger(0, smaller(16, cols_ - first));
        const int64_t col = col_begin_ + first;
        if (args_.trans_b) {
          pack_pairs_transposed(b_ + col * args_.ldb + k, args_.ldb, count, depth, out);
        } else {
          pack_pairs(b_ + k * args_.ldb + col, args_.ldb, count, depth, out);
        }
      }
    }
  }

  void multiply() {
    // A task keeps a few panels of b in cache and takes all rows past them.
    int64_t task_cols = 8, task_rows = 8;
    while (task_cols * task_rows > 1 &&
           ceil_div(row_panels_, task_rows) * ceil_div(col_panels_, task_cols) < 4 * workers_) {
      (task_cols > task_rows ? task_cols : task_rows) /= 2;
    }
    const int64_t row_tasks = ceil_div(row_panels_, task_rows), col_tasks = ceil_div(col_panels_, task_cols);
    run_tasks(row_tasks * col_tasks, workers_, [&] {
      return [&, session = Session()](int64_t task) {
        const int64_t row = task % row_tasks * task_rows, col = task / row_tasks * task_cols;
        for (int64_t j = col; j < smaller(col + task_cols, col_panels_); ++j) {
          for (int64_t i = row; i < smaller(row + task_rows, row_panels_); ++i) multiply_block(i, j);
        }
      };
    });
  }

  /// The tile registers of one thread for the time of its tasks.
  struct Session {
    Session() { Tiles::configure(); }
    Session(Session&& other) noexcept : open(other.open) { other.open = false; }
    ~Session() {
      if (open) Tiles::release();
    }
    bool open = true;
  };

  void multiply_block(int64_t row_panel, int64_t col_panel) const {
    const int64_t row = row_begin_ + row_panel * kBlock;
    const bool direct = in_place(row_panel);
    const bfloat16* a = direct ? a_ + row * args_.lda + k_begin_ : packed_a_ + row_panel * panel_size();
    const int64_t a_stride = direct ? args_.lda : kBlock;
    const int64_t a_step = direct ? kBlock : kBlock * kBlock;
    const bfloat16* b = packed_b_ + col_panel * panel_size();
    alignas(64) float local[kBlock * kBlock];
    float* sums = sums_ == nullptr ? local : sums_ + (row_panel * col_panels_ + col_panel) * kBlock * kBlock;
    constexpr int64_t kSumStride = kBlock * sizeof(float);
    constexpr int64_t kHalfRows = 16 * kBlock;
    if (k_begin_ == 0) {
      Tiles::template zero<0>();
      Tiles::template zero<1>();
      Tiles::template zero<2>();
      Tiles::template zero<3>();
    } else {
      Tiles::template load<0>(sums, kSumStride);
      Tiles::template load<1>(sums + 16, kSumStride);
      Tiles::template load<2>(sums + kHalfRows, kSumStride);
      Tiles::template load<3>(sums + kHalfRows + 16, kSumStride);
    }
    for (int64_t step = 0; step < steps_; ++step, a += a_step, b += kBlock * kBlock) {
      Tiles::template load<4>(a, a_stride * 2);
      Tiles::template load<6>(b, 64);
      Tiles::template dot<0, 4, 6>();
      Tiles::template load<7>(b + kBlock * 16, 64);
      Tiles::template dot<1, 4, 7>();
      Tiles::template load<5>(a + 16 * a_stride, a_stride * 2);
      Tiles::template dot<2, 5, 6>();
      Tiles::template dot<3, 5, 7>();
    }
    Tiles::template store<0>(sums, kSumStride);
    Tiles::template store<1>(sums + 16, kSumStride);
    Tiles::template store<2>(sums + kHalfRows, kSumStride);
    Tiles::template store<3>(sums + kHalfRows + 16, kSumStride);
    if (k_end_ < args_.k) return;
    const int64_t rows = smaller(kBlock, row_begin_ + rows_ - row);
    const int64_t cols = smaller(kBlock, cols_ - col_panel * kBlock);
    finish_block<bfloat16>(args_, index_, row, col_begin_ + col_panel * kBlock, rows, cols, sums, kBlock);
  }

  const GemmArgs& args_;
  const int64_t index_, workers_;
  const bfloat16* const a_;
  const bfloat16* const b_;
  const bool a_in_place_;
  int64_t row_begin_, rows_, col_begin_, cols_, k_begin_, k_end_;  // the chunk at work
  int64_t row_panels_, col_panels_, steps_;
  float* sums_ = nullptr;
  bfloat16* packed_a_ = nullptr;
  bfloat16* packed_b_ = nullptr;
};

/// Whether the tiles multiply small whole numbers exactly, whatever the order of the sums: asked of a processor before
/// its tiles are used.
template <class Tiles>
bool tiles_multiply() {
  constexpr int64_t kM = 33, kN = 35, kK = 70;
  bfloat16 a[kM * kK], b[kK * kN];
  for (int64_t i = 0; i < kM * kK; ++i) a[i] = bfloat16(static_cast<float>(i * 7 % 23 - 11));
  for (int64_t i = 0; i < kK * kN; ++i) b[i] = bfloat16(static_cast<float>(i * 5 % 17 - 8));
  float c[kM * kN] = {};
  GemmArgs args{};
  args.a = a, args.b = b, args.c = c;
  args.c_dtype = DType::f32;
  args.m = kM, args.n = kN, args.k = kK;
  args.lda = kK, args.ldb = kN, args.ldc = kN;
  args.batch = 1;
  args.alpha = 1.0f;
  TileProduct<Tiles>(args, 0, 1).run();
  for (int64_t i = 0; i < kM; ++i) {
    for (int64_t j = 0; j < kN; ++j) {
      float sum = 0.0f;
      for (int64_t l = 0; l < kK; ++l) sum += static_cast<float>(a[i * kK + l]) * static_cast<float>(b[l * kN + j]);
      if (sum != c[i * kN + j]) return false;
    }
  }
  return true;
}

}  // namespace ondol::cpu::ONDOL_ISA
