// attention for many queries on compute capability 9.0: flash attention as in Shah et al. 2024, "FlashAttention-3"
// (arXiv 2407.08608), in bf16 for head_dim up to 128.
//
// Formula: as in attention_forward.cu, without bias, soft cap and dropout.
// Layout: q, out (B, Tq, H, D), k, v (B, Tk, Hkv, D) with strides that are multiples of 16 bytes, D contiguous (padded
// with
//         zeros to 64 or 128).
// Mapping: a block for 128 queries of one head, the tiles with the most keys first; three groups of four warps. One
// thread
//          of group 0 copies tiles of 128 keys and values into a ring of stages (cp.async.bulk.tensor, 128-byte
//          swizzle), which mbarriers hand to and fro. Groups 1 and 2 own 64 queries each: scores are wgmma m64n128k16
//          from shared memory, become weights in registers, and are the left operand of wgmma m64nDk16 with the values
//          as they lie (N-major). A group starts the scores of the next tile and the product with the values of this
//          one, and computes weights while they run; the groups take turns, so that the weights of one meet the
//          products of the other.
// Registers: 40 for group 0, 232 for the others (setmaxnreg).
// Accumulation: f32; the weights are rounded to bf16 for the product with v. Tiles begin at multiples of 128.
// Shared memory: queries, stages of keys and values: 144 KiB at D = 64 (four stages), 160 KiB at D = 128 (two).
// Tuning: HopperTiles, untuned: not run on a GPU yet.
#include "attention.h"
#include "attention_rows.h"
#include "device/attention_tiles.cuh"
#include "device/key_ring.cuh"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

template <int kDim>
struct HopperTiles {
  static constexpr int kGroups = 2;  // that compute
  static constexpr int kGroupRows = 64;
  static constexpr int kRows = kGroups * kGroupRows;
  static constexpr int kKeys = 128;
  static constexpr int kStages = kDim <= 64 ? 4 : 2;
  static constexpr int kThreads = 128 * (kGroups + 1);
  static constexpr int kCopyRegisters = 40, kComputeRegisters = 232;

  using Queries = PanelTile<kGroupRows, kDim>;
  using Ring = KeyRing<kKeys, kDim, kStages>;
  static constexpr size_t kSharedBytes =
      kPatternBytes + kGroups * Queries::kBytes + Ring::kTileBytes + Ring::kOtherBytes + sizeof(Mbarrier);

  static_assert(kCopyRegisters + kGroups * kComputeRegisters <= (kGroups + 1) * (65536 / kThreads / 8 * 8));
  static_assert(kSharedBytes <= size_t{227} << 10);
};

/// The shared memory of a block.
template <int kDim>
struct HopperMemory {
  using Tiles = HopperTiles<kDim>;
  unsigned char* queries;
  Mbarrier* queries_full;
  typename Tiles::Ring ring;

  __device__ explicit HopperMemory(SharedMemory shared) {
    unsigned char* next = shared.take<unsigned char>(Tiles::kSharedBytes);
    next += (kPatternBytes - shared_address(next) % kPatternBytes) % kPatternBytes;
    queries = next;
    next += Tiles::kGroups * Tiles::Queries::kBytes;
    ring = {next};
    queries_full = reinterpret_cast<Mbarrier*>(next + Tiles::Ring::kTileBytes + Tiles::Ring::kOtherBytes);
  }
  __device__ typename Tiles::Queries queries_of(int group) const { return {queries + group * Tiles::Queries::kBytes}; }
};

/// The computing groups in turn: between wait() and pass() the products of one alone are started.
class Turns {
 public:
  __device__ explicit Turns(int group) : group_(group) {
    if (group_ == 1) named_barrier_arrive<256>(kFirst);  // group 0 begins
  }
  __device__ void wait() const { named_barrier_sync<256>(kFirst + group_); }
  __device__ void pass() const { named_barrier_arrive<256>(kFirst + (group_ ^ 1)); }
  /// Takes the turn that nobody wants any more: a barrier ends as it has begun.
  __device__ void end() const {
    if (group_ == 0) wait();
  }

 private:
  static constexpr int kFirst = 1;
  int group_;
};

/// Everything that group 0 does, one warp of it: brings the tiles that any of the block's queries sees, in order.
template <int kDim>
__device__ inline void copy_tiles(const HopperMemory<kDim>& memory, const Sequence& sequence, const Content& content,
                                  Range queries, const Head& at, const TensorMap& map_q, const TensorMap& map_k,
                                  const TensorMap& map_v) {
  using Tiles = HopperTiles<kDim>;
  const bool leader = lane_index() == 0;
  const int h = static_cast<int>(at.h), kv_h = static_cast<int>(at.kv_h), b = static_cast<int>(at.b);
  if (leader) {
    mbarrier_arrive_expect(memory.queries_full, Tiles::kGroups * Tiles::Queries::kBytes);
    for (int group = 0; group < Tiles::kGroups; ++group) {
      for (int p = 0; p < Tiles::Queries::kPanels; ++p) {
        copy_box_async(memory.queries_of(group).panel(p), map_q, p * kPanelColumns, h,
                       queries.begin + group * Tiles::kGroupRows, b, memory.queries_full);
      }
    }
  }
  const QueryTile seen(sequence, content, queries);
  RingPlace<Tiles::kStages> place;
  for (int j = seen.any.begin / Tiles::kKeys * Tiles::kKeys; j < seen.any.end; j += Tiles::kKeys) {
    const bool needed = tile_mask(sequence, content, seen, {j, j + 64}).needed ||
                        tile_mask(sequence, content, seen, {j + 64, j + 128}).needed;
    if (!needed) continue;
    if (leader) memory.ring.fill(place, map_k, map_v, kv_h, j, b);
    warp_barrier();
    place.advance();
  }
  if (leader) memory.ring.finish(place);
}

/// What the masks hide of a tile of 128 keys.
struct HopperMask {
  bool partial;
  uint64_t shown[2];
  __device__ HopperMask(const Sequence& sequence, const Content& content, const QueryTile& queries, int j)
      : partial(false) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const TileMask mask = tile_mask(sequence, content, queries, {j + 64 * half, j + 64 * half + 64});
      partial = partial || mask.partial || !mask.needed;
      shown[half] = mask.shown;
    }
  }
};

/// What a block works on.
struct HopperBlock {
  Head at;
  int first_query;
  Sequence sequence;

  __device__ HopperBlock(const AttentionArgs& a, int number, int rows)
      : at(a, number % (a.batch * a.num_heads) / a.num_heads, number % a.num_heads),
        first_query(static_cast<int>(((a.q_len + rows - 1) / rows - 1 - number / (a.batch * a.num_heads)) * rows)),
        sequence(a, at.b) {}
};

template <int kDim>
__global__ void __launch_bounds__(HopperTiles<kDim>::kThreads, 1)
    attention_hopper_kernel(const __grid_constant__ AttentionArgs a, bool aligned_out,
                            const __grid_constant__ TensorMap map_q, const __grid_constant__ TensorMap map_k,
                            const __grid_constant__ TensorMap map_v) {
  using Tiles = HopperTiles<kDim>;
  constexpr int kScoreBlocks = Tiles::kKeys / 8, kHalf = kScoreBlocks / 2;
  const HopperMemory<kDim> memory{SharedMemory()};

  const HopperBlock block(a, static_cast<int>(blockIdx.x), Tiles::kRows);
  const Head& at = block.at;
  const Sequence& sequence = block.sequence;
  const int i0 = block.first_query;
  const Content content(a, at.b);
  const Range queries{i0, smaller(i0 + Tiles::kRows, sequence.queries)};

  if (threadIdx.x == 0) {
    prefetch_tensor_map(map_q);
    prefetch_tensor_map(map_k);
    prefetch_tensor_map(map_v);
    mbarrier_init(memory.queries_full, 1);
    memory.ring.init(4 * Tiles::kGroups);
    mbarrier_publish();
  }
  block_barrier();

  const int group = shuffle_from(static_cast<int>(threadIdx.x) / 128, 0) - 1;  // the compiler sees: one for a warp
  if (group < 0) {
    give_registers_back<Tiles::kCopyRegisters>();
    if (warp_index() == 0) {
      copy_tiles<kDim>(memory, sequence, content, queries, at, map_q, map_k, map_v);
    }
    return;
  }
  take_registers<Tiles::kComputeRegisters>();

  // A group without queries of its own goes through the same motions with the last one.
  const int first = i0 + group * Tiles::kGroupRows;
  const Range mine{smaller(first, sequence.queries - 1), smaller(first + Tiles::kGroupRows, sequence.queries)};
  const QueryTile seen(sequence, content, mine);
  const int row0 = 16 * (warp_index() % 4);
  const auto row_at = [&](int, int half) { return QueryAt{first + row0 + accumulator_row(2 * half), at.h}; };
  const QueryInfo<1> rows(sequence, content, row_at);
  const float factor = a.scale * kLog2E;
  const auto tile_q = memory.queries_of(group);
  const uint64_t q = tile_q.by_columns();

  float scores[1][kScoreBlocks][4], out[1][kDim / 8][4], shrink[1][2];
  uint32_t weights[kScoreBlocks / 2][4];
  OnlineSoftmax<1> softmax;
  clear(out);

  const auto start_scores = [&](int stage) {
    const uint64_t k = memory.ring.keys.tile(stage).by_columns();
    pin_registers(scores[0]);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      wgmma<false>(scores[0], Tiles::Queries::column_step(q, step), Tiles::Ring::Tile::column_step(k, step), step > 0);
    }
    wgmma_commit();
  };
  const auto start_values = [&](int stage) {
    const uint64_t v = memory.ring.values.tile(stage).by_rows();
    pin_registers(out[0]);
    pin_registers(weights);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Tiles::kKeys / 16; ++step) {
      wgmma<true>(out[0], weights[step], Tiles::Ring::Tile::row_step(v, step), true);
    }
    wgmma_commit();
  };
  const auto weigh = [&](int j0) {
    const HopperMask mask(sequence, content, seen, j0);
    if (mask.partial) {
      hide_scores_between<0, kHalf>(scores, rows, content, mask.shown[0], sequence.keys, j0, 0);
      hide_scores_between<kHalf, kScoreBlocks>(scores, rows, content, mask.shown[1], sequence.keys, j0 + 64, 0);
    }
    softmax.weigh(scores, factor, shrink);
  };
  const auto pack = [&] {
#pragma unroll
    for (int step = 0; step < Tiles::kKeys / 16; ++step) pack_weights(weights[step], scores[0], 2 * step);
  };

  mbarrier_wait(memory.queries_full, 0);
  RingPlace<Tiles::kStages> place;
  int j0 = memory.ring.wait_for_keys(place);
  if (j0 != Tiles::Ring::kNone) {
    const Turns turns(group);
    start_scores(place.stage);
    wgmma_wait<0>();
    pin_registers(scores[0]);
    memory.ring.keys.release(place);
    weigh(j0);
    pack();
    for (;;) {
      const RingPlace<Tiles::kStages> before = place;
      place.advance();
      const int next = memory.ring.wait_for_keys(place);
      if (next == Tiles::Ring::kNone) {
        place = before;
        break;
      }
      j0 = next;
      turns.wait();
      start_scores(place.stage);
      memory.ring.values.wait(before);
      start_values(before.stage);
      turns.pass();
      wgmma_wait<1>();
      pin_registers(scores[0]);
      memory.ring.keys.release(place);
      weigh(j0);
      wgmma_wait<0>();
      pin_registers(out[0]);
      memory.ring.values.release(before);
      softmax.rescale(out, shrink);
      pack();
    }
    turns.end();
    memory.ring.values.wait(place);
    if (j0 + Tiles::kKeys > sequence.keys && sequence.keys < a.kv_len) {
      // What lies behind the last key is anything; times a weight of zero it could still be NaN.
      memory.ring.values.tile(place.stage).clear_rows(sequence.keys - j0, static_cast<int>(threadIdx.x) % 128, 128);
      fence_async_proxy();
      named_barrier_sync<128>(3 + group);
    }
    start_values(place.stage);
    wgmma_wait<0>();
    pin_registers(out[0]);
  }

  // Where the results go is found out anew: until here the registers have had other uses.
  int number = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  pin_registers(number);
  pin_registers(thread);
  const HopperBlock end(a, number, Tiles::kRows);
  const int group_row = thread / 128 * Tiles::kGroupRows - Tiles::kGroupRows, warp_row = thread % 128 / 32 * 16;
  const int first_row = end.first_query + group_row;
  float finish[1][2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = softmax.total(0, half);
    const int i = first_row + warp_row + thread % 32 / 4 + 8 * half;
    finish[0][half] = total == 0.0f ? 0.0f : 1.0f / total;
    if (a.lse != nullptr && i < end.sequence.queries && thread % 4 == 0) {
      a.lse[end.sequence.row(end.at.h, i)] =
          total == 0.0f ? -INFINITY : softmax.reference[0][half] * kLn2 + logf(total);
    }
  }
  named_barrier_sync<128>(3 + group);  // the queries of the group are not needed any more
  const auto target = out_rows(a, static_cast<bfloat16*>(a.out), end.at, end.sequence);
  const Tile<bfloat16, kDim> staging{reinterpret_cast<bfloat16*>(tile_q.data)};
  store_rows(out, finish, staging, warp_row, static_cast<int>(a.head_dim), aligned_out,
             [&](int row) { return target(first_row + row); });
}

/// Boxes of `rows` rows of one head of a tensor (B, T, H, D). False where the copy engine cannot take it.
bool encode_rows(TensorMap& map, const AttentionArgs& a, const void* data, int64_t length, int64_t heads,
                 std::array<int64_t, 3> strides, int rows) {
  const std::array<int64_t, 4> sizes{a.head_dim, heads, length, a.batch};
  for (size_t d = 0; d < 3; ++d) {
    if (sizes[d + 1] == 1) strides[d] = kPanelColumns;  // not used
  }
  return encode_tensor_map(map, {data, sizes, strides, {kPanelColumns, 1, rows, 1}});
}

template <int kDim>
bool launch_hopper(const AttentionArgs& a, Stream stream) {
  using Tiles = HopperTiles<kDim>;
  TensorMap map_q, map_k, map_v;
  if (!encode_rows(map_q, a, a.q, a.q_len, a.num_heads, {a.q_stride_h, a.q_stride_t, a.q_stride_b},
                   Tiles::kGroupRows) ||
      !encode_rows(map_k, a, a.k, a.kv_len, a.num_kv_heads, {a.k_stride_h, a.k_stride_t, a.k_stride_b}, Tiles::kKeys) ||
      !encode_rows(map_v, a, a.v, a.kv_len, a.num_kv_heads, {a.v_stride_h, a.v_stride_t, a.v_stride_b}, Tiles::kKeys)) {
    return false;
  }
  const int64_t tiles = (a.q_len + Tiles::kRows - 1) / Tiles::kRows;
  launch("attention", attention_hopper_kernel<kDim>, blocks_for("attention", tiles * a.batch * a.num_heads, 1),
         Tiles::kThreads, Tiles::kSharedBytes, stream, a, aligned_outputs<bfloat16>(a, a.out), map_q, map_k, map_v);
  return true;
}

bool device_is_hopper() {
  int device = 0, major = 0, minor = 0;
  CUDA_CHECK("attention", cudaGetDevice(&device));
  CUDA_CHECK("attention", cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  CUDA_CHECK("attention", cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return major == 9 && minor == 0;
}

}  // namespace

bool attention_hopper(const AttentionArgs& a, Stream stream) {
  if (a.head_dim > 128 || a.head_dim % 8 != 0 || needs_extras(a)) return false;
  if (a.block_table != nullptr || a.q_offsets != nullptr || !device_is_hopper()) return false;
  return a.head_dim <= 64 ? launch_hopper<64>(a, stream) : launch_hopper<128>(a, stream);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
