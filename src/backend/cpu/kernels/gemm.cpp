// Matrix product in f32 arithmetic for f32 and bf16 operands (the blocking of Goto & van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008).
//
// The sum over k is cut into chains of at most kMaxChain steps whose length depends on k alone: fused multiply-adds in
// the order of k, added to the sum of the chains before. Short chains keep rounding errors small. Which tile, task,
// thread or instruction set computes an element therefore changes no bit of its sum, and a row of c does not depend on
// how many other rows are computed with it. Operands are packed in blocks of whole chains, kMaxDepth steps at most.
#include <unistd.h>

#include "backend/cpu/kernels/gemm_epilogue.h"
#include "backend/cpu/kernels/gemm_few_rows.h"
#include "backend/cpu/kernels/gemm_micro.h"
#include "backend/cpu/kernels/gemm_slices.h"
#include "backend/cpu/kernels/pack.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/tasks.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {

constexpr int64_t kMaxDepth = 768;
constexpr int64_t kMaxChain = 128;
constexpr int64_t kChunkRows = 168;
constexpr int64_t kKeptDepth = 4096;      // up to this k, a thread keeps all of its packed block of b
constexpr int64_t kTallChunkRows = 1008;  // rows of a chunk beyond it, where each chunk packs b anew
constexpr int64_t kMinChunkPanels = 4;
constexpr int64_t kMinBlockCols = 96;
constexpr int64_t kPackedFloats = 4 << 20;  // bounds the packed copy of a
constexpr int64_t kPackSteps = 32;          // steps of k of a transposed a packed together

/// `total` cut into the fewest equal parts of at most `limit`, rounded up to `unit`.
int64_t equal_part(int64_t total, int64_t limit, int64_t unit) {
  if (total <= limit) return larger(total, 1);
  return round_up(ceil_div(total, ceil_div(total, limit)), unit);
}

int64_t chain_length(int64_t k) { return equal_part(k, kMaxChain, 8); }

int64_t block_depth(int64_t k) {
  const int64_t chain = chain_length(k);
  return equal_part(k, kMaxDepth / chain * chain, chain);
}

/// Columns of a block of b: kMaxDepth steps of it take two fifths of the second-level cache.
int64_t block_cols() {
  static const int64_t cols = [] {
    const long reported = sysconf(_SC_LEVEL2_CACHE_SIZE);
    const int64_t bytes = reported > 0 ? reported : int64_t{1} << 20;
    return larger(64, smaller(384, bytes * 2 / 5 / (kMaxDepth * 4) / kTileCols * kTileCols));
  }();
  return cols;
}

float* scratch_floats(ScratchSlot slot, int64_t count) {
  return static_cast<float*>(thread_scratch(slot, static_cast<size_t>(count) * sizeof(float)));
}

/// The product of one matrix of the batch. c is cut into blocks of columns and those into chunks of rows. A thread
/// takes a block, packs its columns of b into its second-level cache and computes chunk after chunk; when no block is
/// left it helps with the chunks of others' blocks. Packing twice costs less than waiting for each other.
template <class T>
class Product {
 public:
  Product(const GemmArgs& args, int64_t index, int64_t workers)
      : args_(args),
        index_(index),
        workers_(workers),
        a_(static_cast<const T*>(args.a) + index * args.stride_a),
        b_(static_cast<const T*>(args.b) + index * args.stride_b) {
    chain_ = chain_length(args.k);
    depth_ = block_depth(args.k);
    a_direct_ = sizeof(T) == 4 && !args.trans_a;
    b_direct_ = sizeof(T) == 4 && !args.trans_b && args.m <= 2 * kTileRows;
    plain_ = args.alpha == 1.0f && (args.beta == 0.0f || args.beta == 1.0f) && args.bias == nullptr &&
             args.residual == nullptr && args.pre_activation == nullptr && args.epilogue == GemmEpilogue::none &&
             args.c_dtype == DType::f32;
    panel_rows_ = equal_part(args.m, kTileRows, 1);
    col_panels_ = ceil_div(args.n, kTileCols);
  }

  void run() {
    // Sums that wait in c leave k free to be cut: a packed a is then small enough to be read back from a cache.
    const int64_t k_limit = a_direct_ ? kKeptDepth : depth_;
    const int64_t k_part = plain_ ? equal_part(args_.k, k_limit, depth_) : larger(args_.k, 1);
    keeps_b_ = k_part <= kKeptDepth;
    const int64_t row_limit = a_direct_ ? args_.m : larger(kChunkRows, kPackedFloats / k_part);
    const int64_t row_part = equal_part(args_.m, row_limit, panel_rows_);
    for (int64_t k = 0; k == 0 || k < args_.k; k += k_part) {
      k_begin_ = k;
      k_end_ = smaller(k + k_part, args_.k);
      for (int64_t row = 0; row < args_.m; row += row_part) {
        row_begin_ = row;
        row_end_ = smaller(row + row_part, args_.m);
        row_panels_ = ceil_div(row_end_ - row_begin_, panel_rows_);
        cut();
        if (!a_direct_) pack_a();
        multiply();
      }
    }
  }

 private:
  /// Blocks and chunks as large as the caches take, smaller when threads would have nothing to do.
  void cut() {
    int64_t chunk_rows = keeps_b_ ? kChunkRows : kTallChunkRows;
    chunk_panels_ = equal_part(row_panels_, larger(1, chunk_rows / panel_rows_), 1);
    int64_t blocks = ceil_div(col_panels_, block_cols() / kTileCols);
    // The same number of blocks for every thread, as long as that number is small and the blocks are not.
    const int64_t even = round_up(blocks, workers_);
    if (blocks < 8 * workers_ && args_.n >= even * kMinBlockCols) blocks = even;
    block_panels_ = ceil_div(col_panels_, blocks);
    const int64_t wanted = workers_ == 1 ? 1 : 4 * workers_;
    for (;;) {
      blocks_ = ceil_div(col_panels_, block_panels_);
      chunks_ = ceil_div(row_panels_, chunk_panels_);
      if (blocks_ * chunks_ >= wanted) return;
      if (chunk_panels_ > kMinChunkPanels && chunk_panels_ * panel_rows_ >= block_panels_ * kTileCols / 4) {
        chunk_panels_ = (chunk_panels_ + 1) / 2;
      } else if (block_panels_ * kTileCols > kMinBlockCols) {
        block_panels_ = (block_panels_ + 1) / 2;
      } else if (chunk_panels_ > kMinChunkPanels) {
        chunk_panels_ = (chunk_panels_ + 1) / 2;
      } else {
        return;
      }
    }
  }

  void multiply() {
    // The first counter numbers the workers, the others are the next chunk of each block.
    auto* next = reinterpret_cast<int64_t*>(scratch_floats(ScratchSlot::counters, 2 * (blocks_ + 1)));
    for (int64_t i = 0; i <= blocks_; ++i) next[i] = 0;
    const auto take = [](int64_t& counter) { return __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED); };
    const int64_t workers = smaller(blocks_ * chunks_, workers_);
    parallel_for(workers, 1, [&](int64_t, int64_t) {
      const int64_t number = take(next[0]);
      const auto finish = [&](int64_t block, int64_t block_after) {
        if (__atomic_load_n(&next[1 + block], __ATOMIC_RELAXED) >= chunks_) return;
        Worker worker(*this, block, block_after);
        for (int64_t chunk; (chunk = take(next[1 + block])) < chunks_;) worker.multiply(chunk);
      };
      for (int64_t block = number; block < blocks_; block += workers) finish(block, block + workers);
      // Then others' blocks, those first that come last to their owners.
      for (int64_t i = 0; i < blocks_; ++i) finish((number + blocks_ - 1 - i) % blocks_, blocks_);
    });
  }

  int64_t depth_at(int64_t k) const { return smaller(depth_, k_end_ - k); }

  int64_t packed_a_offset(int64_t panel, int64_t k) const {
    return (k - k_begin_) * row_panels_ * panel_rows_ + panel * panel_rows_ * depth_at(k);
  }

  /// Packs the window's rows of a, which every block reads.
  void pack_a() {
    packed_a_ = scratch_floats(ScratchSlot::packed_a, row_panels_ * panel_rows_ * (k_end_ - k_begin_));
    const int64_t unit = args_.trans_a ? kPackSteps : 1;  // of steps or of panels
    const int64_t parts = args_.trans_a ? ceil_div(depth_, unit) : row_panels_;
    const int64_t tasks = parts * ceil_div(k_end_ - k_begin_, depth_);
    parallel_for(tasks, workers_ == 1 ? tasks : 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) pack_a_part(i % parts * unit, k_begin_ + i / parts * depth_);
    });
  }

  /// Of the block of k that starts at `k`: the kPackSteps steps from `first` on when a is transposed (its rows are read
  /// whole), else the panel `first`.
  void pack_a_part(int64_t first, int64_t k) const {
    const int64_t depth = depth_at(k), rows = row_end_ - row_begin_;
    if (args_.trans_a) {
      if (first >= depth) return;
      pack_rows(a_ + (k + first) * args_.lda + row_begin_, args_.lda, smaller(kPackSteps, depth - first), rows,
                panel_rows_, packed_a_ + packed_a_offset(0, k) + first * panel_rows_, panel_rows_ * depth);
    } else {
      const int64_t row = first * panel_rows_;
      pack_transposed(a_ + (row_begin_ + row) * args_.lda + k, args_.lda, depth, smaller(panel_rows_, rows - row),
                      panel_rows_, packed_a_ + packed_a_offset(first, k), panel_rows_);
    }
  }

  /// Packs the columns of the panels [panel, panel_end), the steps of k from `k` on.
  void pack_b(int64_t panel, int64_t panel_end, int64_t k, float* out) const {
    const int64_t col = panel * kTileCols;
    const int64_t present = smaller(panel_end * kTileCols, args_.n) - col;
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

  bool b_in_place(int64_t panel) const { return b_direct_ && (panel + 1) * kTileCols <= args_.n; }

  /// The memory that pack_b reads.
  Ahead rows_of_b(int64_t panel, int64_t panel_end, int64_t k) const {
    const int64_t col = panel * kTileCols, cols = smaller(panel_end * kTileCols, args_.n) - col, depth = depth_at(k);
    return args_.trans_b ? Ahead(b_ + col * args_.ldb + k, args_.ldb, cols, depth)
                         : Ahead(b_ + k * args_.ldb + col, args_.ldb, depth, cols);
  }

  /// What a thread needs for the chunks of one block.
  class Worker {
   public:
    Worker(const Product& product, int64_t block, int64_t block_after) : p_(product), block_after_(block_after) {
      col_begin_ = block * p_.block_panels_;
      col_end_ = smaller(col_begin_ + p_.block_panels_, p_.col_panels_);
      cols_ = (col_end_ - col_begin_) * kTileCols;
      // In place or not is decided panel by panel: only the last can be a partial one.
      packed_begin_ = !p_.b_in_place(col_begin_) ? col_begin_ : p_.b_in_place(col_end_ - 1) ? col_end_ : col_end_ - 1;
      packed_b_ = scratch_floats(ScratchSlot::packed_b, (col_end_ - packed_begin_) * kTileCols *
                                                            (p_.keeps_b_ ? p_.k_end_ - p_.k_begin_ : p_.depth_));
      // Sums that outlive a step of k wait in c itself or here.
      if (!p_.plain_ && p_.args_.k > p_.depth_) {
        sums_ = scratch_floats(ScratchSlot::task, p_.chunk_panels_ * p_.panel_rows_ * cols_);
      }
    }

    void multiply(int64_t chunk) {
      const int64_t row_begin = chunk * p_.chunk_panels_;
      const int64_t row_end = smaller(row_begin + p_.chunk_panels_, p_.row_panels_);
      for (int64_t k = p_.k_begin_; k == p_.k_begin_ || k < p_.k_end_; k += p_.depth_) {
        float* packed_b = packed_b_;
        if (p_.keeps_b_) packed_b += (k - p_.k_begin_) * (col_end_ - packed_begin_) * kTileCols;
        const bool packs = packed_begin_ < col_end_ && !(p_.keeps_b_ && b_is_packed_);
        if (packs) p_.pack_b(packed_begin_, col_end_, k, packed_b);
        ahead_ = next_of_b(packs, k + p_.depth_at(k));
        ahead_.spread((row_end - row_begin) * (col_end_ - col_begin_), p_.depth_at(k));
        multiply_panels(row_begin, row_end, k, packed_b);
      }
      b_is_packed_ = true;
    }

   private:
    /// The columns of b that this thread will pack next.
    Ahead next_of_b(bool packs, int64_t k) const {
      if (k < p_.k_end_) return packs ? p_.rows_of_b(packed_begin_, col_end_, k) : Ahead();
      if (block_after_ >= p_.blocks_) return {};
      const int64_t begin = block_after_ * p_.block_panels_;
      return p_.rows_of_b(begin, smaller(begin + p_.block_panels_, p_.col_panels_), p_.k_begin_);
    }

    void multiply_panels(int64_t row_begin, int64_t row_end, int64_t k, const float* packed_b) {
      const int64_t depth = p_.depth_at(k);
      for (int64_t row = row_begin; row < row_end; ++row) {
        for (int64_t col = col_begin_; col < col_end_; ++col) {
          Tile tile;
          tile.row = p_.row_begin_ + row * p_.panel_rows_;
          tile.col = col * kTileCols;
          tile.ahead = &ahead_;
          if (p_.b_in_place(col)) {
            tile.b_stride = p_.args_.ldb;
            if constexpr (sizeof(T) == 4) tile.b = p_.b_ + k * p_.args_.ldb + tile.col;
          } else {
            tile.b_stride = kTileCols;
            tile.b = packed_b + (col - packed_begin_) * kTileCols * depth;
          }
          if (!p_.a_direct_) {
            tile.a = p_.packed_a_ + p_.packed_a_offset(row, k);
            tile.a_stride = p_.panel_rows_;
          } else if constexpr (sizeof(T) == 4) {
            tile.a = p_.a_ + tile.row * p_.args_.lda + k;
            tile.a_stride = p_.args_.lda;
          }
          if (sums_ != nullptr) {
            tile.sums = sums_ + (row - row_begin) * p_.panel_rows_ * cols_ + (col - col_begin_) * kTileCols;
            tile.sums_stride = cols_;
          }
          p_.multiply_tile(tile, k);
        }
      }
    }

    const Product& p_;
    int64_t block_after_;  // the block that this thread takes next
    int64_t col_begin_, col_end_, cols_;
    int64_t packed_begin_;  // the panels from here to col_end_ are packed
    bool b_is_packed_ = false;
    float* packed_b_ = nullptr;
    float* sums_ = nullptr;
    Ahead ahead_;
  };

  /// Operands of one call of the micro-kernel. Rows of `sums` are where sums wait between blocks of k.
  struct Tile {
    int64_t row, col;
    const float* a = nullptr;
    int64_t a_stride = 1;
    const float* b = nullptr;
    int64_t b_stride = 1;
    float* sums = nullptr;
    int64_t sums_stride = 0;
    Ahead* ahead = nullptr;
  };

  void multiply_tile(const Tile& tile, int64_t k) const {
    const int64_t rows = smaller(panel_rows_, row_end_ - tile.row);
    const int64_t cols = smaller(kTileCols, args_.n - tile.col);
    const MicroKernel kernel = micro_kernel_for(rows, !a_direct_);
    const int64_t depth = depth_at(k);
    const bool first = k == 0;
    const auto run = [&](float* out, int64_t stride, bool accumulate) {
      kernel(depth, chain_, tile.a, tile.a_stride, tile.b, tile.b_stride, out, stride, accumulate, tile.ahead);
    };
    const auto finish = [&](const GemmArgs& args, const float* sums, int64_t stride) {
      finish_block<T>(args, index_, tile.row, tile.col, rows, cols, sums, stride);
    };
    if (plain_ && cols == kTileCols) {
      float* out = static_cast<float*>(args_.c) + index_ * args_.stride_c + tile.row * args_.ldc + tile.col;
      run(out, args_.ldc, !first || args_.beta != 0.0f);
      return;
    }
    if (tile.sums != nullptr) {
      run(tile.sums, tile.sums_stride, !first);
      if (k + depth >= args_.k) finish(args_, tile.sums, tile.sums_stride);
      return;
    }
    alignas(64) float sums[kTileRows * kTileCols];
    if (plain_ && !first) {  // goes on where the blocks before have left c
      const float* waiting =
          static_cast<const float*>(args_.c) + index_ * args_.stride_c + tile.row * args_.ldc + tile.col;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) sums[i * kTileCols + j] = waiting[i * args_.ldc + j];
      }
      run(sums, kTileCols, true);
      GemmArgs replace = args_;
      replace.beta = 0.0f;
      finish(replace, sums, kTileCols);
    } else {
      run(sums, kTileCols, false);
      finish(args_, sums, kTileCols);
    }
  }

  const GemmArgs& args_;
  const int64_t index_;
  const int64_t workers_;
  const T* const a_;
  const T* const b_;
  int64_t chain_, depth_;
  bool a_direct_;  // a is read where it lies
  bool b_direct_;  // b is read where it lies (whole panels only)
  bool keeps_b_;   // a thread keeps every step of k of its packed columns of b
  bool plain_;     // c = a b or c += a b in f32: sums may wait in c
  int64_t panel_rows_, col_panels_;
  // The part of the rows and of k at work.
  int64_t row_begin_, row_end_, row_panels_, k_begin_, k_end_;
  float* packed_a_ = nullptr;
  int64_t block_panels_, blocks_;  // panels of columns of a block, blocks
  int64_t chunk_panels_, chunks_;  // panels of rows of a chunk, chunks of a block
};

/// One matrix of the batch.
template <class T>
void multiply(const GemmArgs& args, int64_t index, int64_t workers) {
  if (args.m <= kFewRows) {
    multiply_few_rows<T>(args, index, chain_length(args.k), workers);
  } else if (const GemmSlices slices(args, sizeof(T), workers); slices.pay()) {
    parallel_for(workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const GemmArgs slice = slices.at(i);
        if (slice.m > 0 && slice.n > 0) Product<T>(slice, index, 1).run();
      }
    });
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
