// The operands of a matrix product in shared memory, and the product of a warp's part of them.
//
// A panel has kOuter rows of op(a) (or columns of op(b)) and kDepth of k. It lies in shared memory as the operand does
// in global memory, so that 16-byte units can be copied as they are: `kAlong` when k is contiguous (a as (m, k), b as
// (n, k)), otherwise the outer dimension is ((k, m), (k, n)). bf16 goes to the tensor cores, ldmatrix transposing where
// the layout asks for it; f32 is plain arithmetic on units of four, k in order, one fused multiply-add at a time.
//
// A warp computes 16 kRowTiles rows and 32 columns. Its sums lie as tile.cuh says of accumulators, but where f32 reads
// units across k: panel_row and panel_column tell where.
#pragma once

#include "device/tile.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

template <class T, bool kAlong, int kOuter, int kDepth>
struct Panel {
  static constexpr int kLines = kAlong ? kOuter : kDepth;
  static constexpr int kLength = kAlong ? kDepth : kOuter;
  static constexpr size_t kBytes = tile_bytes<T>(kLines, kLength);

  Tile<T, kLength> tile;

  __device__ static Panel take(SharedMemory& shared, int count) {
    return {Tile<T, kLength>::take(shared, count * kLines)};
  }
  /// One of `count` panels taken together.
  __device__ Panel at(int index) const { return {tile.from(index * kLines)}; }

  /// The block starts copying; what lies outside the operand becomes zero. `aligned` as for load_tile.
  template <int kThreads>
  __device__ void load(const T* source, int64_t ld, bool aligned, int64_t outer0, int64_t outers, int64_t depth0,
                       int64_t depths) const {
    const int64_t line0 = kAlong ? outer0 : depth0, lines = kAlong ? outers : depths;
    const int64_t inner0 = kAlong ? depth0 : outer0, inners = kAlong ? depths : outers;
    const int64_t left = inners - inner0;
    const T* first = source + line0 * ld + inner0;
    load_tile<kThreads, kLines>(tile, static_cast<int>(left < kLength ? left : kLength), aligned, [=](int line) {
      return line0 + line < lines ? first + line * ld : static_cast<const T*>(nullptr);
    });
  }

  /// bf16: the fragment of 16 outers and 16 of k for mma_m16n8k16, as its left operand or as two right ones.
  template <bool kLeft>
  __device__ void fragment(uint32_t (&out)[4], int outer, int depth) const {
    const int lane = lane_index();
    const int second_outer = kLeft ? lane / 8 % 2 : lane / 16, second_depth = kLeft ? lane / 16 : lane / 8 % 2;
    if constexpr (kAlong) {
      load_matrices(out, tile.unit(outer + 8 * second_outer + lane % 8, depth / 8 + second_depth));
    } else {
      load_matrices_transposed(out, tile.unit(depth + 8 * second_depth + lane % 8, outer / 8 + second_outer));
    }
  }
};

/// Where element e of block n (row tile r) of a warp's sums belongs, from the warp's first row and column.
template <class T, bool kAlong>
__device__ inline int panel_row(int r, int e) {
  if constexpr (sizeof(T) == 2 || kAlong) return 16 * r + accumulator_row(e);
  return 32 * (r / 2) + 4 * (lane_index() / 4) + 2 * (r % 2) + e / 2;
}
template <class T, bool kAlong>
__device__ inline int panel_column(int n, int e) {
  if constexpr (sizeof(T) == 2 || kAlong) return accumulator_column(n, e);
  return output_column<T>(n, e);
}

/// sum += a b over the panels' depth, for the rows row0 ... and columns column0 ... of them.
template <int kRowTiles, bool kAlongA, bool kAlongB, int kRows, int kColumns, int kDepth>
__device__ inline void multiply_panels(float (&sum)[kRowTiles][4][4], Panel<bfloat16, kAlongA, kRows, kDepth> a,
                                       Panel<bfloat16, kAlongB, kColumns, kDepth> b, int row0, int column0) {
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t left[kRowTiles][4], right[2][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) a.template fragment<true>(left[r], row0 + 16 * r, k);
#pragma unroll
    for (int n = 0; n < 2; ++n) b.template fragment<false>(right[n], column0 + 16 * n, k);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < 4; ++n)
        mma_m16n8k16(sum[r][n], left[r], right[n / 2][n % 2 * 2], right[n / 2][n % 2 * 2 + 1]);
    }
  }
}

/// The same in f32. A thread owns 2 kRowTiles rows and 8 columns; the p-th row and q-th column meet in
/// sum[p / 2][q / 2][p % 2 * 2 + q % 2].
template <int kRowTiles, bool kAlongA, bool kAlongB, int kRows, int kColumns, int kDepth>
__device__ inline void multiply_panels(float (&sum)[kRowTiles][4][4], Panel<float, kAlongA, kRows, kDepth> a,
                                       Panel<float, kAlongB, kColumns, kDepth> b, int row0, int column0) {
  constexpr int kOwnRows = 2 * kRowTiles;
  static_assert(kOwnRows % 4 == 0);
  const int lane = lane_index();
#pragma unroll 1
  for (int k = 0; k < kDepth; k += 4) {
    float left[kOwnRows][4];  // of k ... k + 3
    const auto load_left = [&](int i) {
#pragma unroll
      for (int p = 0; p < kOwnRows; p += 4) {
        const Floats<4> unit = load_floats<4>(a.tile.unit(k + i, row0 / 4 + lane / 4 + 2 * p));
#pragma unroll
        for (int j = 0; j < 4; ++j) left[p + j][i] = unit[j];
      }
    };
    if constexpr (kAlongA) {
#pragma unroll
      for (int p = 0; p < kOwnRows; ++p) {
        const Floats<4> unit = load_floats<4>(a.tile.unit(row0 + lane / 4 + 8 * p, k / 4));
#pragma unroll
        for (int i = 0; i < 4; ++i) left[p][i] = unit[i];
      }
    } else if constexpr (kAlongB) {
#pragma unroll
      for (int i = 0; i < 4; ++i) load_left(i);
    }
    if constexpr (kAlongB) {
#pragma unroll
      for (int q = 0; q < 8; ++q) {
        const Floats<4> right = load_floats<4>(b.tile.unit(column0 + accumulator_column(q / 2, q % 2), k / 4));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int p = 0; p < kOwnRows; ++p) sum[p / 2][q / 2][p % 2 * 2 + q % 2] += left[p][i] * right[i];
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (!kAlongA) load_left(i);
#pragma unroll
        for (int q = 0; q < 8; q += 4) {
          const Floats<4> right = load_floats<4>(b.tile.unit(k + i, column0 / 4 + lane % 4 + q));
#pragma unroll
          for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int p = 0; p < kOwnRows; ++p) {
              sum[p / 2][(q + j) / 2][p % 2 * 2 + j % 2] += left[p][i] * right[j];
            }
          }
        }
      }
    }
  }
}

}  // namespace ondol::ONDOL_CUDA_SPACE
