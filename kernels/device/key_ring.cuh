// A ring of tiles of keys and values in shared memory between one thread that copies and several warps that compute.
//
// A stage has two barriers. `full`: one arrival and the bytes of the tile; `empty`: an arrival of each computing warp. The
// first use of a stage finds it empty.
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
  /// By one thread: as soon as the stage is empty, starts to copy the rows from `row` on of head h of sequence b.
  __device__ void fill(const Place& place, const TensorMap& map, int h, int row, int b) const {
    mbarrier_wait(empty + place.stage, place.parity ^ 1);
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
  static constexpr size_t kTileBytes = 2 * kStages * Tile::kBytes, kBarrierBytes = 4 * kStages * sizeof(Mbarrier);

  Tiles keys, values;

  KeyRing() = default;
  /// At `memory`, which is aligned to kPatternBytes.
  __device__ KeyRing(unsigned char* memory) {
    auto* barriers = reinterpret_cast<Mbarrier*>(memory + kTileBytes);
    keys = {memory, barriers, barriers + kStages};
    values = {memory + kStages * Tile::kBytes, barriers + 2 * kStages, barriers + 3 * kStages};
  }
  __device__ void init(unsigned warps) const {
    keys.init(warps);
    values.init(warps);
  }
  /// Behind its memory.
  __device__ unsigned char* end() const { return reinterpret_cast<unsigned char*>(values.empty + kStages); }
};

}  // namespace ondol::ONDOL_CUDA_SPACE
