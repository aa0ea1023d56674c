// Tiles of rows in shared memory: loads from global memory in the background, and stores of accumulators through them.
//
// A tile has rows of kDim elements without padding. Its 16-byte units are permuted within each row, so that eight
// neighbouring rows read at one column (ldmatrix, or a quad's rows in f32) lie in different banks.
#pragma once

#include <device/ptx.cuh>

#include "device/block.cuh"
#include "device/vector.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

template <class T, int kDim>
struct Tile {
  static_assert(kDim % 32 == 0);
  static constexpr int kUnit = kVector128<T>;
  static constexpr int kUnits = kDim / kUnit;

  static constexpr int kTurned = kUnits % 8 == 0 ? 7 : 3;  // the bits of a unit's number that turn() changes
  __device__ static int turn(int row) { return kUnits % 8 == 0 ? row & 7 : row >> 1 & 3; }

  T* data;

  __device__ static Tile take(SharedMemory& shared, int rows) { return {shared.take<T>(rows * kDim)}; }
  /// Unit u (elements u * kUnit ...) of a row.
  __device__ T* unit(int row, int u) const { return data + row * kDim + (u ^ turn(row)) * kUnit; }
  /// The tile from a row on; `row` is a multiple of 8.
  __device__ Tile from(int row) const { return {data + row * kDim}; }
  __device__ T* element(int row, int column) const { return unit(row, column / kUnit) + column % kUnit; }
};

/// Units of one row, and of the rows that lie a multiple of 8 below it: they are permuted alike, and the address is one
/// exclusive or away from that of the row. (The compiler does not see this in Tile::unit, and computes every address.)
template <class T, int kDim>
class TileRow {
 public:
  using Tiles = Tile<T, kDim>;

  __device__ TileRow(Tiles tile, int row, int first_unit = 0)
      : data_(tile.data), offset_(row * kDim + (first_unit ^ Tiles::turn(row)) * Tiles::kUnit) {}
  /// Unit first_unit + u of the row; the two have no bit in common.
  __device__ T* unit(int below, int u) const {
    const int turned = u & Tiles::kTurned;
    return data_ + (offset_ ^ turned * Tiles::kUnit) + (below * kDim + (u - turned) * Tiles::kUnit);
  }

 private:
  T* data_;
  int offset_;
};

/// What a Tile takes of shared memory.
template <class T>
constexpr size_t tile_bytes(int rows, int dim) {
  return shared_bytes<T>(static_cast<int64_t>(rows) * dim);
}

/// The block's kThreads threads start copying kRows rows of `dim` elements; row_at(row) is where a row lies, or null
/// for zeros. Columns from dim on become zero. `aligned`: rows begin at multiples of 16 bytes and dim is whole units;
/// the copies are then asynchronous, to be committed and waited for.
template <int kThreads, int kRows, class T, int kDim, class RowAt>
__device__ inline void load_tile(Tile<T, kDim> tile, int dim, bool aligned, RowAt row_at) {
  constexpr int kUnit = Tile<T, kDim>::kUnit, kUnits = Tile<T, kDim>::kUnits;
  const int thread = static_cast<int>(threadIdx.x);
  if (aligned) {
    constexpr int kCopies = kRows * kUnits;  // a count of rounds that the compiler knows needs few registers
#pragma unroll 4
    for (int first = 0; first < kCopies; first += kThreads) {
      const int n = first + thread;
      if (kCopies % kThreads != 0 && n >= kCopies) break;
      const int row = n / kUnits, u = n % kUnits;
      const T* source = row_at(row);
      copy_async_16(tile.unit(row, u), source + u * kUnit, source != nullptr && u * kUnit < dim);
    }
    return;
  }
#pragma unroll 1
  for (int n = thread; n < kRows * kDim; n += kThreads) {
    const int row = n / kDim, column = n % kDim;
    const T* source = row_at(row);
    *tile.element(row, column) = source != nullptr && column < dim ? source[column] : from_float<T>(0.0f);
  }
}

/// Rows and columns of a thread's accumulators of 16 rows and 8 columns a block: element e of block n.
__device__ inline int accumulator_row(int e) { return lane_index() / 4 + 8 * (e / 2); }
__device__ inline int accumulator_column(int n, int e) { return 8 * n + 2 * (lane_index() % 4) + e % 2; }

/// The column that accumulate_product (tile_product.cuh) puts there: f32 takes four neighbours from two blocks.
template <class T>
__device__ inline int output_column(int n, int e) {
  if constexpr (sizeof(T) == 2) return accumulator_column(n, e);
  return 16 * (n / 2) + 4 * (lane_index() % 4) + 2 * (n % 2) + e % 2;
}

/// A warp writes `value` (16 kRowTiles rows), each row times factor[row tile][upper or lower half], to row_at(row)
/// (null: nowhere), as T, through its own rows row0 ... of a tile that nobody else uses now.
template <int kRowTiles, class T, int kDim, class RowAt>
__device__ inline void store_rows(const float (&value)[kRowTiles][kDim / 8][4], const float (&factor)[kRowTiles][2],
                                  Tile<T, kDim> staging, int row0, int dim, bool aligned, RowAt row_at) {
  constexpr int kUnit = Tile<T, kDim>::kUnit, kUnits = Tile<T, kDim>::kUnits;
  warp_barrier();
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Floats<2> pair;
        pair[0] = value[r][n][2 * half] * factor[r][half];
        pair[1] = value[r][n][2 * half + 1] * factor[r][half];
        store_floats<2>(staging.element(row0 + 16 * r + accumulator_row(2 * half), output_column<T>(n, 0)), pair);
      }
    }
  }
  warp_barrier();
  for (int i = lane_index(); i < 16 * kRowTiles * kUnits; i += 32) {
    const int row = row0 + i / kUnits, u = i % kUnits;
    T* target = row_at(row);
    if (target == nullptr || u * kUnit >= dim) continue;
    const auto unit = *reinterpret_cast<const Vector<T, kUnit>*>(staging.unit(row, u));
    if (aligned) {
      *reinterpret_cast<Vector<T, kUnit>*>(target + u * kUnit) = unit;
    } else {
      for (int e = 0; e < kUnit && u * kUnit + e < dim; ++e) target[u * kUnit + e] = unit.value[e];
    }
  }
}

}  // namespace ondol::ONDOL_CUDA_SPACE
