// A ring of tiles of keys and values in shared memory between one thread that copies and several warps that compute.
//
// A stage has two barriers. `full`: one arrival and the bytes of the tile; `empty`: an arrival of each computing warp.
// The first use of a stage finds it empty. Who copies decides which tiles there are; the others learn with a tile of
// keys where it begins.
#pragma once

#include <device/tensor_copy.cuh>

#include "device/block.cuh"
#include "device/matrix_descriptor.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// A place in the sequence of tiles.
template <int kStages>
struct RingPlace {
  int stage = 0;
  unsigned parity = 0;  // of the stage's use, counted from 0
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// The stages of keys, or those of values.
template <int kRows, int kDim, int kStages>
struct TileRing {
  using Tile = PanelTile<kRows, kDim>;
  using Place = RingPlace<kStages>;

  unsigned char* data;
  Mbarrier *full, *empty;

  __device__ Tile tile(int stage) const { return {data + stage * Tile::kBytes}; }

  __device__ void init(unsigned warps) const {
    for (int stage = 0; stage < kStages; ++stage) {
      mbarrier_init(full + stage, 1);
      mbarrier_init(empty + stage, warps);
    }
  }
  __device__ void wait_until_empty(const Place& place) const { mbarrier_wait(empty + place.stage, place.parity ^ 1); }
  /// By one thread: starts to copy the rows from `row` on of head h of sequence b into an empty stage.
  __device__ void fill(const Place& place, const TensorMap& map, int h, int row, int b) const {
    mbarrier_arrive_expect(full + place.stage, Tile::kBytes);
    for (int p = 0; p < Tile::kPanels; ++p) {
      copy_box_async(tile(place.stage).panel(p), map, p * kPanelColumns, h, row, b, full + place.stage);
    }
  }
  __device__ void wait(const Place& place) const { mbarrier_wait(full + place.stage, place.parity); }
  /// By whole warps.
  __device__ void release(const Place& place) const {
    warp_barrier();
    if (lane_index() == 0) mbarrier_arrive(empty + place.stage);
  }
};

template <int kRows, int kDim, int kStages>
struct KeyRing {
  using Tiles = TileRing<kRows, kDim, kStages>;
  using Tile = typename Tiles::Tile;
  using Place = RingPlace<kStages>;
  static constexpr int kNone = -1;
  static constexpr size_t kTileBytes = 2 * kStages * Tile::kBytes;
  static constexpr size_t kOtherBytes = kStages * (4 * sizeof(Mbarrier) + sizeof(int));

  Tiles keys, values;
  int* first_key;  // of the keys in a stage

  KeyRing() = default;
  /// At `memory`, which is aligned to kPatternBytes.
  __device__ KeyRing(unsigned char* memory) {
    auto* barriers = reinterpret_cast<Mbarrier*>(memory + kTileBytes);
    keys = {memory, barriers, barriers + kStages};
    values = {memory + kStages * Tile::kBytes, barriers + 2 * kStages, barriers + 3 * kStages};
    first_key = reinterpret_cast<int*>(barriers + 4 * kStages);
  }
  __device__ void init(unsigned warps) const {
    keys.init(warps);
    values.init(warps);
  }
  /// By one thread: the tile of the keys j ... and its values.
  __device__ void fill(const Place& place, const TensorMap& map_k, const TensorMap& map_v, int h, int j, int b) const {
    keys.wait_until_empty(place);
    first_key[place.stage] = j;
    keys.fill(place, map_k, h, j, b);
    values.wait_until_empty(place);
    values.fill(place, map_v, h, j, b);
  }
  /// By one thread, after the last tile.
  __device__ void finish(const Place& place) const {
    keys.wait_until_empty(place);
    first_key[place.stage] = kNone;
    mbarrier_arrive(keys.full + place.stage);
  }
  /// Waits for the keys: where they begin, or kNone when there are no more.
  __device__ int wait_for_keys(const Place& place) const {
    keys.wait(place);
    return first_key[place.stage];
  }
};

}  // namespace ondol::ONDOL_CUDA_SPACE
