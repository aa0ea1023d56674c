// Matrix product in f32 arithmetic for f32 and bf16 operands (the blocking of Goto & van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008).
//
// The sum over k is cut into blocks of at most kMaxDepth steps, equal blocks whose length depends on k alone. Within a
// block an element of c is one chain of fused multiply-adds in the order of k; the blocks are added in order. Which
// tile, task, thread or instruction set computes an element therefore changes no bit of its sum, and a row of c does
// not depend on how many other rows are computed with it.
#include "backend/cpu/kernels/gemm_epilogue.h"
#include "backend/cpu/kernels/gemm_few_rows.h"
#include "backend/cpu/kernels/gemm_micro.h"
#include "backend/cpu/kernels/pack.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/tasks.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {

constexpr int64_t kMaxDepth = 384;
constexpr int64_t kRowsInCache = 252;     // rows of a task where tasks share packed b
constexpr int64_t kColsInCache = 384;     // columns of a block of b that stays in the second-level cache
constexpr int64_t kPackGroup = 8;         // neighbouring panels packed together
constexpr int64_t kChunk = 4096;          // bound of m, n and k between packing passes: bounds the packed copies
constexpr int64_t kSharedPackRows = 256;  // from this m on, packing b more than once is felt
constexpr int64_t kMinTaskCols = 96;

/// `total` cut into the fewest equal parts of at most `limit`, rounded up to `unit`.
int64_t equal_part(int64_t total, int64_t limit, int64_t unit) {
  if (total <= limit) return larger(total, 1);
  return round_up(ceil_div(total, ceil_div(total, limit)), unit);
}

int64_t block_depth(int64_t k) { return equal_part(k, kMaxDepth, 8); }

float* scratch_floats(ScratchSlot slot, int64_t count) {
  return static_cast<float*>(thread_scratch(slot, static_cast<size_t>(count) * sizeof(float)));
}

/// The product of one matrix of the batch by packed panels.
template <class T>
class Product {
 public:
  Product(const GemmArgs& args, int64_t index, int64_t workers)
      : args_(args),
        index_(index),
        workers_(workers),
        a_(static_cast<const T*>(args.a) + index * args.stride_a),
        b_(static_cast<const T*>(args.b) + index * args.stride_b) {
    depth_ = block_depth(args.k);
    a_direct_ = sizeof(T) == 4 && !args.trans_a;
    b_direct_ = sizeof(T) == 4 && !args.trans_b && args.m <= 2 * kTileRows;
    // A task packs its own columns of b into its second-level cache, which is cheapest as long as no other task needs
    // them: as long as the columns alone give every thread something to do.
    b_shared_ = args.m > kSharedPackRows && args.n < 2 * kMinTaskCols * workers;
    plain_ = args.alpha == 1.0f && (args.beta == 0.0f || args.beta == 1.0f) && args.bias == nullptr &&
             args.residual == nullptr && args.pre_activation == nullptr && args.epilogue == GemmEpilogue::none &&
             args.c_dtype == DType::f32;
  }

  void run() {
    const int64_t row_chunk = equal_part(args_.m, kChunk, kTileRows);
    const bool packs_chunk = b_shared_ || !a_direct_;
    const int64_t k_chunk = packs_chunk ? equal_part(args_.k, kChunk, depth_) : larger(args_.k, 1);
    const bool whole_cols = !b_shared_ && k_chunk >= args_.k;
    const int64_t col_chunk = whole_cols ? args_.n : equal_part(args_.n, kChunk, kTileCols);
    for (int64_t col = 0; col < args_.n; col += col_chunk) {
      for (int64_t row = 0; row < args_.m; row += row_chunk) {
        row_begin_ = row;
        rows_ = smaller(row_chunk, args_.m - row);
        col_begin_ = col;
        cols_ = smaller(col_chunk, args_.n - col);
        panel_rows_ = equal_part(rows_, kTileRows, 1);
        row_panels_ = ceil_div(rows_, panel_rows_);
        col_panels_ = ceil_div(cols_, kTileCols);
        sums_ = nullptr;
        if (k_chunk < args_.k && !plain_) {
          sums_ = scratch_floats(ScratchSlot::partial_sums, rows_ * col_panels_ * kTileCols);
        }
        for (int64_t k = 0; k == 0 || k < args_.k; k += k_chunk) {
          k_begin_ = k;
          k_end_ = smaller(k + k_chunk, args_.k);
          pack_shared();
          multiply_chunk();
        }
      }
    }
  }

 private:
  int64_t depth_at(int64_t k) const { return smaller(depth_, k_end_ - k); }

  /// Packs what all tasks of the chunk read: a unless it can be read in place, b when there are enough rows.
  void pack_shared() {
    const int64_t steps = ceil_div(k_end_ - k_begin_, depth_);
    const int64_t a_groups = a_direct_ ? 0 : ceil_div(row_panels_, kPackGroup);
    const int64_t b_groups = b_shared_ ? ceil_div(col_panels_, kPackGroup) : 0;
    if (a_groups + b_groups == 0 || steps == 0) return;
    const int64_t k_count = k_end_ - k_begin_;
    if (a_groups > 0) packed_a_ = scratch_floats(ScratchSlot::packed_a, row_panels_ * panel_rows_ * k_count);
    if (b_groups > 0) packed_b_ = scratch_floats(ScratchSlot::packed_b, col_panels_ * kTileCols * k_count);
    const int64_t groups = a_groups + b_groups;
    parallel_for(groups * steps, workers_ == 1 ? groups * steps : 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t k = k_begin_ + i / groups * depth_;
        const int64_t group = i % groups;
        if (group < a_groups) {
          const int64_t first = group * kPackGroup;
          pack_a_panels(first, smaller(first + kPackGroup, row_panels_), k);
        } else {
          const int64_t first = (group - a_groups) * kPackGroup;
          pack_b_panels(first, smaller(first + kPackGroup, col_panels_), k, packed_b_ + packed_b_offset(first, k));
        }
      }
    });
  }

  int64_t packed_a_offset(int64_t panel, int64_t k) const {
    return (k - k_begin_) * row_panels_ * panel_rows_ + panel * panel_rows_ * depth_at(k);
  }
  int64_t packed_b_offset(int64_t panel, int64_t k) const {
    return (k - k_begin_) * col_panels_ * kTileCols + panel * kTileCols * depth_at(k);
  }

  void pack_a_panels(int64_t panel, int64_t panel_end, int64_t k) const {
    const int64_t row = row_begin_ + panel * panel_rows_;
    const int64_t present = smaller(panel_end * panel_rows_, rows_) - panel * panel_rows_;
    const int64_t depth = depth_at(k);
    float* out = packed_a_ + packed_a_offset(panel, k);
    if (args_.trans_a) {
      pack_rows(a_ + k * args_.lda + row, args_.lda, depth, present, panel_rows_, out, panel_rows_ * depth);
    } else {
      for (int64_t i = 0; i < present; i += panel_rows_, out += panel_rows_ * depth) {
        pack_transposed(a_ + (row + i) * args_.lda + k, args_.lda, depth, smaller(panel_rows_, present - i),
                        panel_rows_, out, panel_rows_);
      }
    }
  }

  void pack_b_panels(int64_t panel, int64_t panel_end, int64_t k, float* out) const {
    const int64_t col = col_begin_ + panel * kTileCols;
    const int64_t present = smaller(panel_end * kTileCols, cols_) - panel * kTileCols;
    const int64_t depth = depth_at(k);
    if (!args_.trans_b) {
      pack_rows(b_ + k * args_.ldb + col, args_.ldb, depth, present, kTileCols, out, kTileCols * depth);
    } else {
      for (int64_t j = 0; j < present; j += kTileCols, out += kTileCols * depth) {
        pack_transposed(b_ + (col + j) * args_.ldb + k, args_.ldb, depth, smaller(kTileCols, present - j), kTileCols,
                        out, kTileCols);
      }
    }
  }

  /// Cuts the chunk into tasks, small enough that every thread gets several.
  void multiply_chunk() {
    int64_t task_rows = b_shared_ ? larger(1, kRowsInCache / panel_rows_) : row_panels_;
    int64_t task_cols = larger(1, kColsInCache / kTileCols);
    const int64_t wanted = workers_ == 1 ? 1 : 4 * workers_;
    while (ceil_div(row_panels_, task_rows) * ceil_div(col_panels_, task_cols) < wanted) {
      if (task_cols > 4 || (task_cols > 1 && (!b_shared_ || task_rows <= 4))) {
        task_cols = (task_cols + 1) / 2;
      } else if (b_shared_ && task_rows > 1) {
        task_rows = (task_rows + 1) / 2;
      } else {
        break;
      }
    }
    const int64_t row_tasks = ceil_div(row_panels_, task_rows);
    const int64_t col_tasks = ceil_div(col_panels_, task_cols);
    run_tasks(row_tasks * col_tasks, workers_, [&] {
      return [&](int64_t task) {
        const int64_t row = task % row_tasks * task_rows;
        const int64_t col = task / row_tasks * task_cols;
        multiply_block(row, smaller(row + task_rows, row_panels_), col, smaller(col + task_cols, col_panels_));
      };
    });
  }

  /// The tiles of the row panels [row_begin, row_end) and column panels [col_begin, col_end) of the chunk.
  void multiply_block(int64_t row_begin, int64_t row_end, int64_t col_begin, int64_t col_end) const {
    const int64_t cols = (col_end - col_begin) * kTileCols;
    const bool pack_here = !b_shared_;
    const bool one_step = k_end_ - k_begin_ <= depth_;
    // Sums that outlive a step of k wait in c itself, in the chunk's buffer or in the task's.
    float* sums = sums_;
    int64_t sums_stride = col_panels_ * kTileCols;
    const int64_t packed_floats = pack_here ? cols * depth_ : 0;
    const int64_t sums_floats = plain_ || sums != nullptr || one_step ? 0 : (row_end - row_begin) * panel_rows_ * cols;
    float* task_memory = scratch_floats(ScratchSlot::task, packed_floats + sums_floats);
    if (sums != nullptr) {
      sums += row_begin * panel_rows_ * sums_stride + col_begin * kTileCols;
    } else if (sums_floats > 0) {
      sums = task_memory + packed_floats;
      sums_stride = cols;
    }
    for (int64_t k = k_begin_; k == k_begin_ || k < k_end_; k += depth_) {
      if (pack_here) {
        // In place or not is decided panel by panel: only the last can be a partial one.
        const int64_t first = b_in_place(col_begin) ? (b_in_place(col_end - 1) ? col_end : col_end - 1) : col_begin;
        if (first < col_end) {
          pack_b_panels(first, col_end, k, task_memory + (first - col_begin) * kTileCols * depth_at(k));
        }
      }
      for (int64_t row = row_begin; row < row_end; ++row) {
        for (int64_t col = col_begin; col < col_end; ++col) {
          if (row + 1 < row_end) prefetch_a(row + 1, k, col - col_begin, col_end - col_begin);
          const float* b_panel = b_shared_ ? packed_b_ + packed_b_offset(col, k)
                                           : task_memory + (col - col_begin) * kTileCols * depth_at(k);
          float* waiting = sums == nullptr
                               ? nullptr
                               : sums + (row - row_begin) * panel_rows_ * sums_stride + (col - col_begin) * kTileCols;
          multiply_tile(row, col, k, b_panel, waiting, sums_stride);
        }
      }
    }
  }

  /// Part `part` of `parts` of the panel of a that comes next, while the kernel works on this one: its rows lie apart,
  /// each too short for the hardware to follow.
  void prefetch_a(int64_t panel, int64_t k, int64_t part, int64_t parts) const {
    if constexpr (sizeof(T) == 4) {
      if (!a_direct_) return;
      const T* first = a_ + (row_begin_ + panel * panel_rows_) * args_.lda + k;
      const int64_t rows = smaller(panel_rows_, rows_ - panel * panel_rows_), depth = depth_at(k);
      for (int64_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i) {
        for (int64_t l = 0; l < depth; l += 16) __builtin_prefetch(first + i * args_.lda + l);
      }
    }
  }

  bool b_in_place(int64_t panel) const { return b_direct_ && (panel + 1) * kTileCols <= cols_; }

  void multiply_tile(int64_t row_panel, int64_t col_panel, int64_t k, const float* b_panel, float* waiting,
                     int64_t waiting_stride) const {
    const int64_t row = row_begin_ + row_panel * panel_rows_;
    const int64_t col = col_begin_ + col_panel * kTileCols;
    const int64_t rows = smaller(panel_rows_, row_begin_ + rows_ - row);
    const int64_t cols = smaller(kTileCols, col_begin_ + cols_ - col);
    const float* a_panel = nullptr;
    int64_t a_stride = panel_rows_;
    if constexpr (sizeof(T) == 4) {
      if (a_direct_) {
        a_panel = a_ + row * args_.lda + k;
        a_stride = args_.lda;
      }
      if (b_in_place(col_panel)) b_panel = b_ + k * args_.ldb + col;
    }
    if (!a_direct_ && k_end_ > k_begin_) a_panel = packed_a_ + packed_a_offset(row_panel, k);
    const int64_t b_stride = b_in_place(col_panel) ? args_.ldb : kTileCols;
    const MicroKernel kernel = micro_kernel_for(rows, !a_direct_);
    const int64_t depth = depth_at(k);
    const bool first = k == 0;
    const bool last = k + depth >= args_.k;
    if (plain_ && cols == kTileCols) {
      float* out = static_cast<float*>(args_.c) + index_ * args_.stride_c + row * args_.ldc + col;
      kernel(depth, a_panel, a_stride, b_panel, b_stride, out, args_.ldc, !first || args_.beta != 0.0f);
      return;
    }
    alignas(64) float tile[kTileRows * kTileCols];
    if (waiting != nullptr) {
      kernel(depth, a_panel, a_stride, b_panel, b_stride, waiting, waiting_stride, !first);
      if (last) finish_block<T>(args_, index_, row, col, rows, cols, waiting, waiting_stride);
      return;
    }
    kernel(depth, a_panel, a_stride, b_panel, b_stride, tile, kTileCols, false);
    if (plain_ && !first) {
      GemmArgs add = args_;
      add.beta = 1.0f;
      finish_block<T>(add, index_, row, col, rows, cols, tile, kTileCols);
    } else {
      finish_block<T>(args_, index_, row, col, rows, cols, tile, kTileCols);
    }
  }

  const GemmArgs& args_;
  const int64_t index_;
  const int64_t workers_;
  const T* const a_;
  const T* const b_;
  int64_t depth_;
  bool a_direct_;  // a is read where it lies
  bool b_direct_;  // b is read where it lies (whole panels only)
  bool b_shared_;  // b is packed once for all tasks rather than by each task
  bool plain_;     // c = a b or c += a b in f32: sums may wait in c
  // The chunk at work.
  int64_t row_begin_, rows_, col_begin_, cols_, k_begin_, k_end_;
  int64_t panel_rows_, row_panels_, col_panels_;
  float* sums_ = nullptr;
  float* packed_a_ = nullptr;
  float* packed_b_ = nullptr;
};

/// One matrix of the batch.
template <class T>
void multiply(const GemmArgs& args, int64_t index, int64_t workers) {
  if (args.m <= kFewRows) {
    multiply_few_rows<T>(args, index, block_depth(args.k), workers);
  } else {
    Product<T>(args, index, workers).run();
  }
}

template <class T>
void gemm(const GemmArgs& args, Stream) {
  if (args.m == 0 || args.n == 0) return;
  const double flops = 2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k);
  const int64_t threads = num_threads();
  if (args.batch > 1 && flops < kParallelFlops * static_cast<double>(threads)) {
    parallel_for(args.batch, larger(1, static_cast<int64_t>(kParallelFlops / (flops + 1.0))),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) multiply<T>(args, i, 1);
                 });
    return;
  }
  // Few rows: reading b is the work, not the arithmetic.
  const double work = args.m <= kFewRows ? flops * 8.0 / static_cast<double>(args.m) : flops;
  const int64_t workers = work < kParallelFlops ? 1 : threads;
  for (int64_t i = 0; i < args.batch; ++i) multiply<T>(args, i, workers);
}

}  // namespace

void add_gemm_rows(KernelTable& table) {
  table.gemm.set(DType::f32, gemm<float>);
  table.gemm.set(DType::bf16, gemm<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
