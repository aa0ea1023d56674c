// attention for many queries: flash attention (Dao 2023, "FlashAttention-2"), with every mask of AttentionArgs.
//
// Formula: s = cap(scale q.k) + bias, p = softmax(s) over the visible keys, out = sum p d v with d the dropout factor,
//          lse = log sum exp(s).
// Layout: q, out (B, Tq, H, D), k, v (B, Tk, Hkv, D) with strides, D contiguous and at most 256 (padded with zeros to
//          32, 64, 96, 128 or 256); an unpadded batch (q_offsets); keys in blocks of a table (block_table).
// Mapping: a block for each tile of 16 queries a warp of one head, the tiles with the most keys first; a warp owns 16
//          rows. Keys and values pass through shared memory, one tile ahead (cp.async); tiles that nobody sees are
//          left out. bf16 multiplies on the tensor cores (mma.m16n8k16), f32 in plain arithmetic.
// Accumulation: f32; the weights are rounded to bf16 for the product with v. Tiles begin at multiples of kColumns, in
//          order, so that a row does not depend on the rows computed with it.
// Shared memory: rows and two stages of keys and values: 48 KiB at bf16 D = 64 ... 96 KiB.
// Tuning: AttentionTiles, untuned: not run on a GPU yet.
#include <cstdlib>
#include <string>

#include "attention.h"
#include "attention_rows.h"
#include "device/attention_tiles.cuh"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

/// kExtras: bias, soft cap, dropout or a scale that is not positive; without them less fits into more registers.
template <class T, int kDim, bool kExtras>
__global__ void __launch_bounds__(AttentionTiles<T, kDim>::kThreads, 2)
    attention_kernel(AttentionArgs a, bool aligned_q, bool aligned_kv, bool aligned_out) {
  using Tiles = AttentionTiles<T, kDim>;
  constexpr int kColumns = Tiles::kForwardColumns, kThreads = Tiles::kThreads;
  SharedMemory shared;
  const auto tile_q = Tile<T, kDim>::take(shared, Tiles::kRows);
  const auto tile_k = Tile<T, kDim>::take(shared, 2 * kColumns);
  const auto tile_v = Tile<T, kDim>::take(shared, 2 * kColumns);
  const auto exchange = WeightExchange<T>::take(shared, Tiles::kWarps);

  const int64_t heads = a.batch * a.num_heads, tiles = (a.q_len + Tiles::kRows - 1) / Tiles::kRows;
  const int64_t number = blockIdx.x % heads;
  const int i0 = static_cast<int>((tiles - 1 - blockIdx.x / heads) * Tiles::kRows);
  const Head at(a, number / a.num_heads, number % a.num_heads);
  const Sequence sequence(a, at.b);
  if (i0 >= sequence.queries) return;
  const Content content(a, at.b);
  const Scoring<T> scoring(a, at.b);
  const WeightDropout dropout(a, at.b);
  const Range queries{i0, smaller(i0 + Tiles::kRows, sequence.queries)};
  const auto row_of_q = query_rows<T>(a, at, sequence);
  const auto load =
      key_value_loader<kThreads, kColumns>(tile_k, tile_v, static_cast<int>(a.head_dim), aligned_kv,
                                           key_rows_of_k<T>(a, at, sequence), key_rows_of_v<T>(a, at, sequence));

  load_tile<kThreads, Tiles::kRows>(tile_q, static_cast<int>(a.head_dim), aligned_q,
                                    [&](int row) { return row_of_q(i0 + row); });
  commit_copies();
  KeyTileLoop<kColumns, 2> loop(sequence, content, queries, sequence.keys_of_any(queries));
  loop.begin(load);
  wait_copies<1>();
  block_barrier();
  const int row0 = 16 * warp_index();
  const auto row_at = [&](int, int half) { return QueryAt{i0 + row0 + accumulator_row(2 * half), at.h}; };
  const RowOperand<T, kDim, 1, Tiles::kResident> q(tile_q, row0);
  const QueryInfo<1> rows(sequence, content, row_at);
  OnlineSoftmax<1> softmax;
  float out[1][kDim / 8][4];
  clear(out);

  loop.run(load, [&](int j0, int stage, const TileMask& mask) {
    float scores[1][kColumns / 8][4];
    clear(scores);
    multiply_rows(scores, q, tile_k.from(stage * kColumns), 0);
    if (kExtras && !scoring.plain()) apply_scoring(scores, scoring, sequence, row_at, j0);
    if (mask.partial) hide_scores(scores, rows, content, mask.shown, sequence.keys, j0, 0);
    softmax.add(scores, kExtras ? scoring.factor() : a.scale * kLog2E, out);
    if (kExtras && dropout.on()) drop_weights(scores, dropout, sequence, row_at, j0);
    accumulate_product(out, scores, tile_v.from(stage * kColumns), 0, exchange);
  });

  float finish[1][2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = softmax.total(0, half);
    const int i = row_at(0, half).i;
    finish[0][half] = total == 0.0f ? 0.0f : dropout.kept / total;
    if (a.lse != nullptr && i < sequence.queries && lane_index() % 4 == 0) {
      a.lse[sequence.row(at.h, i)] = total == 0.0f ? -INFINITY : softmax.reference[0][half] * kLn2 + logf(total);
    }
  }
  const auto target = out_rows(a, static_cast<T*>(a.out), at, sequence);
  store_rows(out, finish, tile_q, row0, static_cast<int>(a.head_dim), aligned_out,
             [&](int row) { return target(i0 + row); });
}

/// Few queries leave the tensor cores idle and the memory waiting: attention_decode.cu splits their keys.
bool few_queries(const AttentionArgs& a) {
  const int64_t rows = a.q_len * (a.num_heads / a.num_kv_heads);
  return rows <= 16 || (rows <= 64 && a.kv_len >= 1024);
}

/// ONDOL_ATTENTION=hopper asks for the form of compute capability 9.0 where there is one, mma (the default) for this
/// one.
bool hopper_wanted() {
  static const bool wanted = [] {
    const char* wish = std::getenv("ONDOL_ATTENTION");
    const std::string form = wish == nullptr || *wish == '\0' ? "mma" : wish;
    if (form != "mma" && form != "hopper") {
      throw UsageError(concat("there is no form of attention \"", form, "\" (ONDOL_ATTENTION)"), "use mma or hopper");
    }
    return form == "hopper";
  }();
  return wanted;
}

template <class T>
void attention(const AttentionArgs& a, Stream stream) {
  check_attention("attention", a);
  if (a.batch * a.num_heads * a.q_len == 0) return;
  if (few_queries(a)) return attention_decode<T>(a, stream);
  if constexpr (sizeof(T) == 2) {
    if (hopper_wanted() && attention_hopper(a, stream)) return;
  }
  with_head_dim<T>(a.head_dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    using Tiles = AttentionTiles<T, kDim>;
    const int64_t tiles = (a.q_len + Tiles::kRows - 1) / Tiles::kRows;
    const size_t shared = tile_bytes<T>(Tiles::kRows, kDim) + 2 * tile_bytes<T>(2 * Tiles::kForwardColumns, kDim) +
                          Tiles::kWarps * WeightExchange<T>::kBytes;
    auto* kernel = needs_extras(a) ? attention_kernel<T, kDim, true> : attention_kernel<T, kDim, sizeof(T) == 4>;
    launch("attention", kernel, blocks_for("attention", tiles * a.batch * a.num_heads, 1), Tiles::kThreads, shared,
           stream, a, aligned_queries<T>(a, a.q), aligned_keys<T>(a), aligned_outputs<T>(a, a.out));
  });
}

}  // namespace

void add_attention_rows(KernelTable& table) {
  table.attention.set(DType::f32, attention<float>);
  table.attention.set(DType::bf16, attention<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
