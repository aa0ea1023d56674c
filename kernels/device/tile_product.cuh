// The two products of attention, for one warp: 16 kRowTiles rows against a tile in shared memory, added to accumulators
// in registers. bf16 runs on the tensor cores, f32 in plain arithmetic; the accumulators lie alike (tile.cuh), so that
// what comes between the products does not know the difference.
//
//   RowOperand<T, kDim, kRowTiles, kResident> q(tile_q, row0);    // rows row0 ... of a tile
//   multiply_rows(scores, q, tile_k, 0);                          // scores += rows . rows of k
//   accumulate_product(out, scores, tile_v, 0, exchange);         // out += scores v
#pragma once

#include "device/tile.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// The left operand of multiply_rows. kResident keeps bf16 fragments in registers (4 for every 16 columns and row
/// tile); otherwise they are read again for every product.
template <class T, int kDim, int kRowTiles, bool kResident>
class RowOperand;

template <int kDim, int kRowTiles, bool kResident>
class RowOperand<bfloat16, kDim, kRowTiles, kResident> {
 public:
  __device__ RowOperand(Tile<bfloat16, kDim> tile, int row0) : row_(tile, row0 + lane_index() % 16, lane_index() / 16) {
    if constexpr (kResident) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) read(fragments_[r][k], r, k);
      }
    }
  }
  /// Columns 16k ... 16k + 15 of row tile r.
  __device__ void fragment(uint32_t (&out)[4], int r, int k) const {
    if constexpr (kResident) {
#pragma unroll
      for (int i = 0; i < 4; ++i) out[i] = fragments_[r][k][i];
    } else {
      read(out, r, k);
    }
  }

 private:
  __device__ void read(uint32_t (&out)[4], int r, int k) const { load_matrices(out, row_.unit(16 * r, 2 * k)); }

  TileRow<bfloat16, kDim> row_;
  uint32_t fragments_[kResident ? kRowTiles : 1][kResident ? kDim / 16 : 1][4];
};

template <int kDim, int kRowTiles, bool kResident>
class RowOperand<float, kDim, kRowTiles, kResident> {
 public:
  __device__ RowOperand(Tile<float, kDim> tile, int row0) : row_(tile, row0 + lane_index() / 4) {}
  /// Columns 4u ... 4u + 3 of this thread's rows.
  __device__ Floats<4> unit(int r, int half, int u) const { return load_floats<4>(row_.unit(16 * r + 8 * half, u)); }

 private:
  TileRow<float, kDim> row_;
};

/// out[., column] += a . row (row0 + column) of b, for 8 kBlocks columns.
template <int kDim, int kRowTiles, bool kResident, int kBlocks>
__device__ inline void multiply_rows(float (&out)[kRowTiles][kBlocks][4],
                                     const RowOperand<bfloat16, kDim, kRowTiles, kResident>& a, Tile<bfloat16, kDim> b,
                                     int row0) {
  const int lane = lane_index();
  // Matrices 0 and 1: rows 0-7, 2 and 3: rows 8-15.
  const TileRow<bfloat16, kDim> row(b, row0 + lane / 16 * 8 + lane % 8, lane / 8 % 2);
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t left[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) a.fragment(left[r], r, k);
#pragma unroll
    for (int n = 0; n < kBlocks; n += 2) {
      uint32_t right[4];
      load_matrices(right, row.unit(8 * n, 2 * k));
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        mma_m16n8k16(out[r][n], left[r], right[0], right[1]);
        mma_m16n8k16(out[r][n + 1], left[r], right[2], right[3]);
      }
    }
  }
}

template <int kDim, int kRowTiles, bool kResident, int kBlocks>
__device__ inline void multiply_rows(float (&out)[kRowTiles][kBlocks][4],
                                     const RowOperand<float, kDim, kRowTiles, kResident>& a, Tile<float, kDim> b,
                                     int row0) {
  const TileRow<float, kDim> rows[2] = {{b, row0 + accumulator_column(0, 0)}, {b, row0 + accumulator_column(0, 1)}};
#pragma unroll(kDim <= 64 ? 2 : 1)
  for (int u = 0; u < kDim / 4; ++u) {
    Floats<4> left[kRowTiles][2];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      left[r][0] = a.unit(r, 0, u);
      left[r][1] = a.unit(r, 1, u);
    }
#pragma unroll
    for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const Floats<4> right = load_floats<4>(rows[e].unit(8 * n, u));
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            out[r][n][e] += left[r][0][i] * right[i];
            out[r][n][2 + e] += left[r][1][i] * right[i];
          }
        }
      }
    }
  }
}

/// What accumulate_product needs of shared memory besides its tile: nothing in bf16, 128 floats a warp in f32.
template <class T>
struct WeightExchange {
  static constexpr size_t kBytes = 0;  // of a warp
  __device__ static WeightExchange take(SharedMemory&, int) { return {}; }
};
template <>
struct WeightExchange<float> {
  static constexpr size_t kBytes = 128 * sizeof(float);
  float* slots;  // of this warp: 16 rows of 8
  __device__ static WeightExchange take(SharedMemory& shared, int warps) {
    return {shared.take<float>(128 * warps) + 128 * warp_index()};
  }
};

/// The columns 8k ... 8k + 15 of a warp's weights, rounded to bf16, as the left operand of a product.
template <int kBlocks>
__device__ inline void pack_weights(uint32_t (&left)[4], const float (&weights)[kBlocks][4], int k) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    left[i] = pack_bf16(weights[k + i / 2][i % 2 * 2], weights[k + i / 2][i % 2 * 2 + 1]);
  }
}

/// out += weights (16 kRowTiles rows, 8 kBlocks columns, as multiply_rows leaves them) times the rows row0 ... of b.
/// bf16 rounds the weights to bf16.
template <int kDim, int kRowTiles, int kBlocks>
__device__ inline void accumulate_product(float (&out)[kRowTiles][kDim / 8][4],
                                          const float (&weights)[kRowTiles][kBlocks][4], Tile<bfloat16, kDim> b,
                                          int row0, WeightExchange<bfloat16>) {
  const int lane = lane_index();
  const TileRow<bfloat16, kDim> row(b, row0 + lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < kBlocks; k += 2) {
    uint32_t left[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) pack_weights(left[r], weights[r], k);
#pragma unroll
    for (int n = 0; n < kDim / 8; n += 2) {
      uint32_t right[4];  // matrices 0 and 1: rows 0-7 and 8-15 of columns 0-7; 2 and 3: of columns 8-15
      load_matrices_transposed(right, row.unit(8 * k, n));
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        mma_m16n8k16(out[r][n], left[r], right[0], right[1]);
        mma_m16n8k16(out[r][n + 1], left[r], right[2], right[3]);
      }
    }
  }
}

/// In f32 the weights of 8 columns at a time are shown to the other lanes of the warp.
template <int kDim, int kRowTiles, int kBlocks>
__device__ inline void accumulate_product(float (&out)[kRowTiles][kDim / 8][4],
                                          const float (&weights)[kRowTiles][kBlocks][4], Tile<float, kDim> b, int row0,
                                          WeightExchange<float> exchange) {
  const int lane = lane_index();
#pragma unroll
  for (int k = 0; k < kBlocks; ++k) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      warp_barrier();
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store_floats<2>(exchange.slots + 8 * accumulator_row(2 * half) + accumulator_column(0, 0),
                        Floats<2>{{weights[r][k][2 * half], weights[r][k][2 * half + 1]}});
      }
      warp_barrier();
#pragma unroll 1
      for (int column = 0; column < 8; ++column) {
        const float upper = exchange.slots[8 * (lane / 4) + column],
                    lower = exchange.slots[8 * (lane / 4 + 8) + column];
        const TileRow<float, kDim> row(b, row0 + column, lane % 4);
#pragma unroll
        for (int n = 0; n < kDim / 8; n += 2) {
          const Floats<4> right = load_floats<4>(row.unit(8 * k, 2 * n));
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            out[r][n + i / 2][i % 2] += upper * right[i];
            out[r][n + i / 2][2 + i % 2] += lower * right[i];
          }
        }
      }
    }
  }
}

template <int kRowTiles, int kBlocks>
__device__ inline void clear(float (&value)[kRowTiles][kBlocks][4]) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) value[r][n][e] = 0.0f;
    }
  }
}

}  // namespace ondol::ONDOL_CUDA_SPACE
