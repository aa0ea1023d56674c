// attention for few queries and many keys (decoding): flash decoding (Dao et al. 2023), with every mask of
// AttentionArgs.
//
// Formula: as attention_forward.cu.
// Mapping: the 16 rows of a block are queries and the heads that share its keys, row = i * group + head, so that keys
//          and values are read once for the whole group. Each warp multiplies all rows with its own 16 keys of a tile;
//          a tile passes through shared memory 16 bytes a thread, one tile ahead. The keys are split between blocks; a
//          second kernel adds up the parts, a warp for each row.
// Accumulation: f32. The number of parts depends on the shape alone and they are added in order: the same bytes in
//          every run, though not those of attention_forward.cu.
// Shared memory: 16 rows and two stages of keys and values, reused for the sums of the warps: 36 KiB at bf16 D = 64,
//          68 KiB at D = 128.
// Tuning: kWantedBlocks (two for each multiprocessor of an H100), kLeastTiles; untuned: not run on a GPU yet.
#include "attention.h"
#include "attention_rows.h"
#include "device/attention_tiles.cuh"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kRows = 16;
constexpr int64_t kWantedBlocks = 264;
constexpr int64_t kLeastTiles = 2;  // tiles of keys that a part has at least

/// Softmax sums of some keys of a row: sum of 2^(score - reference), and of that times the values beside it.
struct PartState {
  float reference, sum;
};

/// Adds up parts of a row in order, for one warp; lane l has the columns l, l + 32, ... of the result.
template <int kDim>
struct RowSum {
  PartState state{-INFINITY, 0.0f};
  float value[kDim / 32] = {};

  /// state_at(n), and value_at(n, column).
  template <class StateAt, class ValueAt>
  __device__ RowSum(int parts, StateAt state_at, ValueAt value_at) {
    for (int n = 0; n < parts; ++n) state.reference = fmaxf(state.reference, state_at(n).reference);
    const float base = state.reference == -INFINITY ? 0.0f : state.reference;
    for (int n = 0; n < parts; ++n) {
      const PartState part = state_at(n);
      const float weight = exp2_fast(part.reference - base);
      state.sum += part.sum * weight;
#pragma unroll
      for (int d = 0; d < kDim / 32; ++d) value[d] += value_at(n, 32 * d + lane_index()) * weight;
    }
  }

  template <class T>
  __device__ void finish(const AttentionArgs& a, float kept, T* out, float* lse) const {
    const bool empty = state.sum == 0.0f;
    const float scale = empty ? 0.0f : kept / state.sum;
#pragma unroll
    for (int d = 0; d < kDim / 32; ++d) {
      const int column = 32 * d + lane_index();
      if (column < a.head_dim) out[column] = from_float<T>(value[d] * scale);
    }
    if (lse != nullptr && lane_index() == 0) *lse = empty ? -INFINITY : state.reference * kLn2 + logf(state.sum);
  }
};

/// Row `row` (of all row tiles) of the queries that share a key head: query row / group, head row % group.
struct PackedRows {
  int first, group;
  int64_t first_head;
  __device__ QueryAt operator()(int row) const { return {(first + row) / group, first_head + (first + row) % group}; }
};

/// Parts of all rows: states (parts, B, H, Tq) and values (parts, B, H, Tq, kDim).
struct Parts {
  PartState* states;
  float* values;
  int64_t rows;
  __device__ static int64_t row(const AttentionArgs& a, int64_t b, const QueryAt& at) {
    return (b * a.num_heads + at.h) * a.q_len + at.i;
  }
};

template <class T, int kDim>
__global__ void __launch_bounds__(32 * AttentionTiles<T, kDim>::kDecodeWarps, 2)
    attention_decode_kernel(AttentionArgs a, Parts parts, bool aligned_q, bool aligned_kv) {
  using Tiles = AttentionTiles<T, kDim>;
  constexpr int kColumns = Tiles::kForwardColumns, kWarps = Tiles::kDecodeWarps, kThreads = 32 * kWarps;
  SharedMemory shared;
  const auto tile_q = Tile<T, kDim>::take(shared, kRows);
  const auto tile_k = Tile<T, kDim>::take(shared, 2 * kColumns);
  const auto tile_v = Tile<T, kDim>::take(shared, 2 * kColumns);
  const auto exchange = WeightExchange<T>::take(shared, kWarps);

  const int group = static_cast<int>(a.num_heads / a.num_kv_heads);
  const int64_t b = blockIdx.z / a.num_kv_heads, kv_head = blockIdx.z % a.num_kv_heads;
  const Head at(a, b, kv_head * group);
  const Sequence sequence(a, b);
  const PackedRows packed{static_cast<int>(blockIdx.y) * kRows, group, at.h};
  const int count = smaller(kRows, sequence.queries * group - packed.first);
  if (count <= 0) return;
  const Content content(a, b);
  const Scoring<T> scoring(a, b);
  const WeightDropout dropout(a, b);
  const Range queries{packed(0).i, packed(count - 1).i + 1};
  const auto load =
      key_value_loader<kThreads, kColumns>(tile_k, tile_v, static_cast<int>(a.head_dim), aligned_kv,
                                           key_rows_of_k<T>(a, at, sequence), key_rows_of_v<T>(a, at, sequence));

  // This block's part of the tiles that its queries see.
  Range keys = sequence.keys_of_any(queries);
  keys.begin = keys.begin / kColumns * kColumns;
  const int tiles = larger(0, keys.end - keys.begin + kColumns - 1) / kColumns;
  const int each = (tiles + static_cast<int>(gridDim.x) - 1) / static_cast<int>(gridDim.x) * kColumns;
  keys.begin += static_cast<int>(blockIdx.x) * each;
  keys.end = smaller(keys.end, keys.begin + each);

  const T* q = static_cast<const T*>(a.q) + sequence.query_offset(a.q_stride_b, a.q_stride_t, b);
  load_tile<kThreads, kRows>(tile_q, static_cast<int>(a.head_dim), aligned_q, [&](int row) -> const T* {
    const QueryAt from = packed(row);
    return row < count ? q + from.i * a.q_stride_t + from.h * a.q_stride_h : nullptr;
  });
  commit_copies();
  KeyTileLoop<kColumns, 2> loop(sequence, content, queries, keys);
  loop.begin(load);
  wait_copies<1>();
  block_barrier();
  const RowOperand<T, kDim, 1, Tiles::kResident> operand(tile_q, 0);
  const auto row_at = [&](int, int half) { return packed(accumulator_row(2 * half)); };
  const QueryInfo<1> rows(sequence, content, row_at);
  const int column0 = 16 * warp_index();
  OnlineSoftmax<1> softmax;
  float out[1][kDim / 8][4];
  clear(out);
  loop.run(load, [&](int j0, int stage, const TileMask& mask) {
    float scores[1][2][4];
    clear(scores);
    multiply_rows(scores, operand, tile_k.from(stage * kColumns), column0);
    if (!scoring.plain()) apply_scoring(scores, scoring, sequence, row_at, j0 + column0);
    if (mask.partial) hide_scores(scores, rows, content, mask.shown, sequence.keys, j0, column0);
    softmax.add(scores, scoring.factor(), out);
    if (dropout.on()) drop_weights(scores, dropout, sequence, row_at, j0 + column0);
    accumulate_product(out, scores, tile_v.from(stage * kColumns), column0, exchange);
  });

  // The warps have different keys of the same rows.
  block_barrier();
  auto* warp_values = reinterpret_cast<float*>(tile_k.data);  // (warps, rows, kDim), in the place of the keys
  auto* warp_states = reinterpret_cast<PartState*>(tile_q.data);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = kRows * warp_index() + accumulator_row(2 * half);
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) warp_values[row * kDim + output_column<T>(n, e)] = out[0][n][2 * half + e];
    }
    const float total = softmax.total(0, half);
    if (lane_index() % 4 == 0) warp_states[row] = {softmax.reference[0][half], total};
  }
  block_barrier();
  for (int row = warp_index(); row < count; row += kWarps) {
    const RowSum<kDim> sum(
        kWarps, [&](int warp) { return warp_states[kRows * warp + row]; },
        [&](int warp, int column) { return warp_values[(kRows * warp + row) * kDim + column]; });
    const QueryAt to = packed(row);
    if (gridDim.x == 1) {
      T* target = static_cast<T*>(a.out) + sequence.query_offset(a.out_stride_b, a.out_stride_t, b) +
                  to.i * a.out_stride_t + to.h * a.out_stride_h;
      sum.finish(a, dropout.kept, target, a.lse == nullptr ? nullptr : a.lse + sequence.row(to.h, to.i));
      continue;
    }
    const int64_t part = blockIdx.x * parts.rows + Parts::row(a, b, to);
    if (lane_index() == 0) parts.states[part] = sum.state;
#pragma unroll
    for (int d = 0; d < kDim / 32; ++d) parts.values[part * kDim + 32 * d + lane_index()] = sum.value[d];
  }
}

constexpr int kCombineWarps = 4;

template <class T, int kDim>
__global__ void attention_combine_kernel(AttentionArgs a, Parts parts, int num_parts) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kCombineWarps + warp_index();
  if (row >= parts.rows) return;
  const int64_t b = row / (a.num_heads * a.q_len), h = row / a.q_len % a.num_heads;
  const int i = static_cast<int>(row % a.q_len);
  const Sequence sequence(a, b);
  if (i >= sequence.queries) return;
  const RowSum<kDim> sum(
      num_parts, [&](int n) { return parts.states[n * parts.rows + row]; },
      [&](int n, int column) { return parts.values[(n * parts.rows + row) * kDim + column]; });
  T* target = static_cast<T*>(a.out) + sequence.query_offset(a.out_stride_b, a.out_stride_t, b) + i * a.out_stride_t +
              h * a.out_stride_h;
  sum.finish(a, WeightDropout(a, b).kept, target, a.lse == nullptr ? nullptr : a.lse + sequence.row(h, i));
}

}  // namespace

template <class T>
void attention_decode(const AttentionArgs& a, Stream stream) {
  with_head_dim<T>(a.head_dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    using Tiles = AttentionTiles<T, kDim>;
    const int64_t row_tiles = (a.q_len * (a.num_heads / a.num_kv_heads) + kRows - 1) / kRows;
    const int64_t blocks = row_tiles * a.batch * a.num_kv_heads;
    const int64_t tiles = (a.kv_len + Tiles::kForwardColumns - 1) / Tiles::kForwardColumns;
    const int64_t wanted = (kWantedBlocks + blocks - 1) / blocks;
    const int num_parts = static_cast<int>(std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, tiles / kLeastTiles)));
    ONDOL_CHECK(a.batch * a.num_kv_heads <= 65535,
                "[attention] too many sequences and heads for one launch: ", a.batch * a.num_kv_heads);
    const int64_t rows = num_parts == 1 ? 0 : a.batch * a.num_heads * a.q_len;
    const Workspace<PartState> states("attention", num_parts * rows, stream);
    const Workspace<float> values("attention", num_parts * rows * kDim, stream);
    const Parts parts{states.data(), values.data(), rows};
    const size_t shared = tile_bytes<T>(kRows, kDim) + 2 * tile_bytes<T>(2 * Tiles::kForwardColumns, kDim) +
                          Tiles::kDecodeWarps * WeightExchange<T>::kBytes;
    const dim3 grid(static_cast<unsigned>(num_parts), static_cast<unsigned>(row_tiles),
                    static_cast<unsigned>(a.batch * a.num_kv_heads));
    launch("attention", attention_decode_kernel<T, kDim>, grid, 32 * Tiles::kDecodeWarps, shared, stream, a, parts,
           aligned_queries<T>(a, a.q), aligned_keys<T>(a));
    if (num_parts == 1) return;
    launch("attention", attention_combine_kernel<T, kDim>, blocks_for("attention", rows, kCombineWarps),
           32 * kCombineWarps, 0, stream, a, parts, num_parts);
  });
}

template void attention_decode<float>(const AttentionArgs&, Stream);
template void attention_decode<bfloat16>(const AttentionArgs&, Stream);

}  // namespace ondol::ONDOL_CUDA_SPACE
