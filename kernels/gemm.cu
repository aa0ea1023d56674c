// gemm: matrix products with a fused epilogue, for any orientation, leading dimensions and batch. Products of
// few rows have kernels of their own (gemm_few_rows.cu); then comes the library of the GPU's vendor (gemm_library.cu);
// the kernel here takes what both refuse.
//
// Formula: pre = alpha * op(a) op(b) + bias, c = epilogue(pre) + residual + beta * c; pre_activation receives pre.
// Layout: as GemmArgs says; a and b f32 or bf16, c of the same type or f32. 16-byte copies and stores where addresses,
//         leading dimensions and lengths allow, else element by element.
// Mapping: a block computes a tile of c, each warp 32 columns and 32 or 64 rows of it (product_panel.cuh): bf16 on the
//          tensor cores, f32 in plain arithmetic. Panels of a and b come several steps of k ahead of the arithmetic,
//          one barrier a step. The sums go through shared memory, so that a row's neighbours are stored together.
//          Blocks that run at the same time share panels: tiles are numbered down kRowsTogether rows of tiles first.
// Accumulation: f32, k in order, whatever the shape.
// Tuning: Large, Small, kFewestLarge, kRowsTogether, untuned: not run on a GPU yet.
#include "device/product_epilogue.cuh"
#include "device/product_panel.cuh"
#include "gemm_few_rows.h"
#include "launch.h"
#include "matmul_library.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kWarpColumns = 32;
constexpr int64_t kRowsTogether = 8;
constexpr int64_t kFewestLarge = 108;  // tiles that make the large ones worth it: the multiprocessors of an A100

/// The tile of a block, the k of a step, the steps under way, and the rows of a warp.
template <int kRows_, int kColumns_, int kDepth_, int kStages_, int kWarpRows_>
struct BlockTile {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = kDepth_, kStages = kStages_;
  static constexpr int kWarpRows = kWarpRows_, kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kWarps = kRows / kWarpRows * kWarpsAcross, kThreads = 32 * kWarps;
};
template <class T>
using Large = BlockTile<128, 128, 32, sizeof(T) == 2 ? 4 : 2, 64>;
template <class T>
using Small = BlockTile<64, 64, sizeof(T) == 2 ? 64 : 32, 3, 32>;

/// What the host knows about alignment.
struct Access {
  bool wide_a, wide_b, wide_c;
};

/// Which tile a block computes.
struct Place {
  int64_t matrix, row, column;
};
template <class Block>
__device__ inline Place place_of(const GemmArgs& args, int64_t block) {
  const int64_t down = (args.m + Block::kRows - 1) / Block::kRows;
  const int64_t across = (args.n + Block::kColumns - 1) / Block::kColumns;
  const int64_t matrix = block / (down * across), tile = block - matrix * down * across;
  const int64_t group = tile / (kRowsTogether * across), within = tile - group * kRowsTogether * across;
  const int64_t first = group * kRowsTogether;
  const int64_t together = down - first < kRowsTogether ? down - first : kRowsTogether;
  return {matrix, (first + within % together) * Block::kRows, within / together * Block::kColumns};
}

/// 32 rows of a warp's sums, from `staging`, to c: kCount neighbours at a time.
template <class T, class C, int kCount>
__device__ inline void finish_rows(const GemmArgs& args, int64_t matrix, int64_t row0, int64_t column0,
                                   Tile<float, kWarpColumns> staging) {
  constexpr int kAcross = kWarpColumns / kCount;
#pragma unroll 1
  for (int i = lane_index(); i < 32 * kAcross; i += 32) {
    const int row = i / kAcross, column = i % kAcross * kCount;
    if (row0 + row >= args.m || column0 + column >= args.n) continue;
    constexpr int kUnit = kCount < 4 ? kCount : 4;
    Floats<kCount> sums;
#pragma unroll
    for (int e = 0; e < kCount; e += kUnit) {
      const Floats<kUnit> unit = load_floats<kUnit>(staging.element(row, column + e));
#pragma unroll
      for (int j = 0; j < kUnit; ++j) sums[e + j] = unit[j];
    }
    finish_elements<T, C, kCount>(args, matrix, row0 + row, column0 + column, sums);
  }
}

template <class T, class C, class Block, bool kTransA, bool kTransB>
__global__ void __launch_bounds__(Block::kThreads, 1) gemm_kernel(GemmArgs args, Access access) {
  constexpr int kStages = Block::kStages, kDepth = Block::kDepth, kRowTiles = Block::kWarpRows / 16;
  using PanelA = Panel<T, !kTransA, Block::kRows, kDepth>;
  using PanelB = Panel<T, kTransB, Block::kColumns, kDepth>;
  SharedMemory shared;
  const Tile<float, kWarpColumns> staging{reinterpret_cast<float*>(SharedMemory().take<uint4>(0)) +
                                          warp_index() * 32 * kWarpColumns};
  const PanelA panels_a = PanelA::take(shared, kStages);
  const PanelB panels_b = PanelB::take(shared, kStages);
  const Place place = place_of<Block>(args, blockIdx.x);
  const T* a = static_cast<const T*>(args.a) + place.matrix * args.stride_a;
  const T* b = static_cast<const T*>(args.b) + place.matrix * args.stride_b;
  const int64_t steps = (args.k + kDepth - 1) / kDepth;
  const auto load = [&](int64_t step) {
    if (step < steps) {
      const int stage = static_cast<int>(step % kStages);
      panels_a.at(stage).template load<Block::kThreads>(a, args.lda, access.wide_a, place.row, args.m, step * kDepth,
                                                        args.k);
      panels_b.at(stage).template load<Block::kThreads>(b, args.ldb, access.wide_b, place.column, args.n, step * kDepth,
                                                        args.k);
    }
    commit_copies();
  };

  const int warp_row = warp_index() / Block::kWarpsAcross * Block::kWarpRows;
  const int warp_column = warp_index() % Block::kWarpsAcross * kWarpColumns;
  float sum[kRowTiles][4][4] = {};
#pragma unroll 1
  for (int step = 0; step < kStages - 1; ++step) load(step);
#pragma unroll 1
  for (int64_t step = 0; step < steps; ++step) {
    wait_copies<kStages - 2>();
    block_barrier();  // everybody's part of this step is there, and the panels of the step before are free
    load(step + kStages - 1);
    const int stage = static_cast<int>(step % kStages);
    multiply_panels(sum, panels_a.at(stage), panels_b.at(stage), warp_row, warp_column);
  }
  wait_copies<0>();
  block_barrier();  // the panels become the staging of the sums

#pragma unroll
  for (int part = 0; part < kRowTiles / 2; ++part) {
    warp_barrier();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
          const float(&block)[4] = sum[2 * part + r][n];
          store_floats<2>(staging.element(panel_row<T, !kTransA>(r, e), panel_column<T, kTransB>(n, e)),
                          Floats<2>{{block[e], block[e + 1]}});
        }
      }
    }
    warp_barrier();
    const int64_t row = place.row + warp_row + 32 * part, column = place.column + warp_column;
    if (access.wide_c) {
      finish_rows<T, C, kVector128<C>>(args, place.matrix, row, column, staging);
    } else {
      finish_rows<T, C, 1>(args, place.matrix, row, column, staging);
    }
  }
}

/// An operand whose lines begin at multiples of 16 bytes and are whole units.
template <class T>
bool whole_units(const void* data, int64_t length, int64_t ld, int64_t stride) {
  constexpr int kUnit = kVector128<T>;
  return aligned(16, data) && length % kUnit == 0 && ld % kUnit == 0 && stride % kUnit == 0;
}

template <class T, class C>
Access access_of(const GemmArgs& args) {
  return {whole_units<T>(args.a, args.trans_a ? args.m : args.k, args.lda, args.stride_a),
          whole_units<T>(args.b, args.trans_b ? args.k : args.n, args.ldb, args.stride_b),
          whole_units<C>(args.c, args.n, args.ldc, args.stride_c) && aligned(16, args.residual, args.pre_activation) &&
              aligned(kVector128<C> * sizeof(T), args.bias)};
}

template <class T, class C, class Block, bool kTransA, bool kTransB>
void run(const GemmArgs& args, int64_t tiles, Stream stream) {
  constexpr size_t kPanels = Panel<T, !kTransA, Block::kRows, Block::kDepth>::kBytes +
                             Panel<T, kTransB, Block::kColumns, Block::kDepth>::kBytes;
  constexpr size_t kBytes = Block::kStages * kPanels;
  static_assert(kBytes <= kMaxSharedBytes && kBytes >= Block::kWarps * tile_bytes<float>(32, kWarpColumns));
  launch("gemm", gemm_kernel<T, C, Block, kTransA, kTransB>, blocks_for("gemm", tiles, 1), Block::kThreads, kBytes,
         stream, args, access_of<T, C>(args));
}

template <class T, class C, class Block>
void run(const GemmArgs& args, int64_t tiles, Stream stream) {
  if (args.trans_a) {
    args.trans_b ? run<T, C, Block, true, true>(args, tiles, stream)
                 : run<T, C, Block, true, false>(args, tiles, stream);
  } else {
    args.trans_b ? run<T, C, Block, false, true>(args, tiles, stream)
                 : run<T, C, Block, false, false>(args, tiles, stream);
  }
}

template <class Block>
int64_t count_tiles(const GemmArgs& args) {
  return (args.m + Block::kRows - 1) / Block::kRows * ((args.n + Block::kColumns - 1) / Block::kColumns) * args.batch;
}

/// Large tiles where they fill the device and do not reach much further beyond the edges of c.
template <class T, class C>
void run(const GemmArgs& args, Stream stream) {
  const int64_t large = count_tiles<Large<T>>(args), small = count_tiles<Small<T>>(args);
  if (large >= kFewestLarge && 4 * large <= small + small / 4) {
    run<T, C, Large<T>>(args, large, stream);
  } else {
    run<T, C, Small<T>>(args, small, stream);
  }
}

template <class T>
void gemm(const GemmArgs& args, Stream stream) {
  if (args.m == 0 || args.n == 0 || args.batch == 0) return;
  if (few_rows_gemm(args, dtype_of<T>::value, stream) || library_gemm(args, dtype_of<T>::value, stream)) return;
  args.c_dtype == DType::f32 ? run<T, float>(args, stream) : run<T, T>(args, stream);
}

}  // namespace

void add_gemm_rows(KernelTable& table) {
  table.gemm.set(DType::f32, gemm<float>);
  table.gemm.set(DType::bf16, gemm<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
