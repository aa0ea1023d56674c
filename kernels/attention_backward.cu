// attention_backward: row sums, grad_q and grad_bias (grad_k and grad_v: attention_backward_kv.cu).
//
// Formula: delta = sum(grad_out * out), p = exp(s - lse), ds = p (d grad_out.v - delta) with d the dropout factor,
//          grad_q = sum ds cap' scale k, grad_bias = sum over the batch of ds.
// Layout: as attention_forward.cu; gradients have strides of their own.
// Mapping: delta: a warp for each row. grad_q: a block for each tile of 16 queries a warp of one head, as the forward;
//          the weights are computed again from lse. grad_bias: a block for each tile of queries and keys of one head,
//          which goes through the batch. bf16 multiplies on the tensor cores, f32 in plain arithmetic.
// Accumulation: f32, keys and sequences in order, no atomics; ds is rounded to bf16 for the product with k.
// Shared memory: rows of q and grad_out and two stages of k and v: 48 KiB at bf16 D = 64, 64 KiB at D = 128.
// Tuning: AttentionTiles, untuned: not run on a GPU yet.
#include "attention.h"
#include "attention_rows.h"
#include "device/attention_tiles.cuh"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kSumWarps = 4;

/// workspace[row] = sum of grad_out * out.
template <class T>
__global__ void attention_row_sums_kernel(AttentionBackwardArgs args, bool aligned) {
  const AttentionArgs& a = args.forward;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * kSumWarps + warp_index();
  if (number >= a.batch * a.num_heads * a.q_len) return;
  const int64_t b = number / (a.num_heads * a.q_len), h = number / a.q_len % a.num_heads;
  const int i = static_cast<int>(number % a.q_len);
  const Sequence sequence(a, b);
  if (i >= sequence.queries) return;
  const Head at(a, b, h);
  const T* out = out_rows(a, static_cast<const T*>(a.out), at, sequence)(i);
  const T* grad_out = out_rows(a, static_cast<const T*>(args.grad_out), at, sequence)(i);
  float sum = 0.0f;
  if (aligned) {
    constexpr int kUnit = kVector128<T>;
    for (int d = lane_index() * kUnit; d < a.head_dim; d += 32 * kUnit) {
      const Floats<kUnit> x = load_floats<kUnit>(out + d), g = load_floats<kUnit>(grad_out + d);
#pragma unroll
      for (int e = 0; e < kUnit; ++e) sum += x[e] * g[e];
    }
  } else {
    for (int d = lane_index(); d < a.head_dim; d += 32) sum += to_float(out[d]) * to_float(grad_out[d]);
  }
  sum = warp_reduce(sum, Sum{});
  if (lane_index() == 0) args.workspace[sequence.row(h, i)] = sum;
}

/// The rows of a thread as the backward sees them.
__device__ inline RowGradient row_gradient(const AttentionBackwardArgs& args, const Sequence& sequence, QueryAt at) {
  if (at.i >= sequence.queries) return RowGradient::none();
  const int64_t row = sequence.row(at.h, at.i);
  return RowGradient::from(args.forward.lse[row], args.workspace[row]);
}

/// scores, the products of queries and keys j0 ..., become the gradients of the products or, kBias, of the scores; zero
/// where hidden. grad_values: the products of grad_out and values.
template <bool kBias, bool kExtras, class T, int kBlocks, class RowAt>
__device__ inline void differentiate_rows(float (&scores)[1][kBlocks][4], const float (&grad_values)[1][kBlocks][4],
                                          const Scoring<T>& scoring, const WeightDropout& dropout,
                                          const Sequence& sequence, const RowGradient (&gradients)[2],
                                          const TileMask& mask, const QueryInfo<1>& rows, const Content& content,
                                          RowAt row_at, int j0) {
  KeptWeights kept{};
  if (kExtras && dropout.on()) kept = KeptWeights::of<kBlocks>(dropout, sequence, row_at, j0);
  if (mask.partial) hide_scores(scores, rows, content, mask.shown, sequence.keys, j0, 0);
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const bool keeps = !kExtras || !dropout.on() || kept(n, e);
      float& value = scores[0][n][e];
      const PairGradient pair =
          pair_gradient<kExtras>(scoring, sequence, value, grad_values[0][n][e], gradients[e / 2], keeps, dropout.kept,
                                 row_at(0, e / 2), j0 + accumulator_column(n, e));
      value = kBias ? pair.score : pair.product;
    }
  }
}

template <class T, int kDim, bool kExtras>
__global__ void __launch_bounds__(AttentionTiles<T, kDim>::kThreads, 2)
    attention_grad_q_kernel(AttentionBackwardArgs args, bool aligned_q, bool aligned_kv, bool aligned_out,
                            bool aligned_grad) {
  using Tiles = AttentionTiles<T, kDim>;
  constexpr int kColumns = Tiles::kBackwardColumns, kThreads = Tiles::kThreads, kStages = Tiles::kBackwardStages;
  const AttentionArgs& a = args.forward;
  SharedMemory shared;
  const auto tile_q = Tile<T, kDim>::take(shared, Tiles::kRows);
  const auto tile_g = Tile<T, kDim>::take(shared, Tiles::kRows);
  const auto tile_k = Tile<T, kDim>::take(shared, kStages * kColumns);
  const auto tile_v = Tile<T, kDim>::take(shared, kStages * kColumns);
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
  const auto load =
      key_value_loader<kThreads, kColumns>(tile_k, tile_v, static_cast<int>(a.head_dim), aligned_kv,
                                           plain_rows_of_k<T>(a, at, sequence), plain_rows_of_v<T>(a, at, sequence));

  const auto row_of_q = query_rows<T>(a, at, sequence);
  const auto row_of_g = out_rows(a, static_cast<const T*>(args.grad_out), at, sequence);
  load_tile<kThreads, Tiles::kRows>(tile_q, static_cast<int>(a.head_dim), aligned_q,
                                    [&](int row) { return row_of_q(i0 + row); });
  load_tile<kThreads, Tiles::kRows>(tile_g, static_cast<int>(a.head_dim), aligned_out,
                                    [&](int row) { return row_of_g(i0 + row); });
  commit_copies();
  KeyTileLoop<kColumns, kStages> loop(sequence, content, queries, sequence.keys_of_any(queries));
  loop.begin(load);
  wait_copies<1>();
  block_barrier();
  const int row0 = 16 * warp_index();
  const RowOperand<T, kDim, 1, Tiles::kBackwardResident> q(tile_q, row0), g(tile_g, row0);
  const auto row_at = [&](int, int half) { return QueryAt{i0 + row0 + accumulator_row(2 * half), at.h}; };
  const QueryInfo<1> rows(sequence, content, row_at);
  const RowGradient gradients[2] = {row_gradient(args, sequence, row_at(0, 0)),
                                    row_gradient(args, sequence, row_at(0, 1))};
  float grad_q[1][kDim / 8][4];
  clear(grad_q);
  loop.run(load, [&](int j0, int stage, const TileMask& mask) {
    float scores[1][kColumns / 8][4], grad_values[1][kColumns / 8][4];
    clear(scores);
    clear(grad_values);
    multiply_rows(scores, q, tile_k.from(stage * kColumns), 0);
    multiply_rows(grad_values, g, tile_v.from(stage * kColumns), 0);
    differentiate_rows<false, kExtras>(scores, grad_values, scoring, dropout, sequence, gradients, mask, rows, content,
                                       row_at, j0);
    accumulate_product(grad_q, scores, tile_k.from(stage * kColumns), 0, exchange);
  });
  const float finish[1][2] = {{a.scale, a.scale}};
  const QueryRows<T> target{static_cast<T*>(args.grad_q) +
                                sequence.query_offset(args.grad_q_stride_b, args.grad_q_stride_t, at.b) +
                                at.h * args.grad_q_stride_h,
                            args.grad_q_stride_t, sequence.queries};
  store_rows(grad_q, finish, tile_q, row0, static_cast<int>(a.head_dim), aligned_grad,
             [&](int row) { return target(i0 + row); });
}

template <class T, int kDim>
__global__ void __launch_bounds__(AttentionTiles<T, kDim>::kThreads, 2)
    attention_grad_bias_kernel(AttentionBackwardArgs args, bool aligned_q, bool aligned_kv, bool aligned_out) {
  using Tiles = AttentionTiles<T, kDim>;
  constexpr int kColumns = Tiles::kBackwardColumns, kThreads = Tiles::kThreads;
  const AttentionArgs& a = args.forward;
  SharedMemory shared;
  const auto tile_q = Tile<T, kDim>::take(shared, Tiles::kRows);
  const auto tile_g = Tile<T, kDim>::take(shared, Tiles::kRows);
  const auto tile_k = Tile<T, kDim>::take(shared, kColumns);
  const auto tile_v = Tile<T, kDim>::take(shared, kColumns);

  const int64_t key_tiles = (a.kv_len + kColumns - 1) / kColumns,
                row_tiles = (a.q_len + Tiles::kRows - 1) / Tiles::kRows;
  const int64_t h = blockIdx.x / (key_tiles * row_tiles);
  const int i0 = static_cast<int>(blockIdx.x / key_tiles % row_tiles * Tiles::kRows);
  const int j0 = static_cast<int>(blockIdx.x % key_tiles * kColumns);
  const int row0 = 16 * warp_index();
  const auto row_at = [&](int, int half) { return QueryAt{i0 + row0 + accumulator_row(2 * half), h}; };
  float sum[1][kColumns / 8][4];
  clear(sum);
  for (int64_t b = 0; b < a.batch; ++b) {
    const Head at(a, b, h);
    const Sequence sequence(a, b);
    const Content content(a, b);
    const Scoring<T> scoring(a, b);
    const WeightDropout dropout(a, b);
    const Range queries{i0, smaller(i0 + Tiles::kRows, sequence.queries)};
    const TileMask mask = tile_mask(sequence, content, QueryTile(sequence, content, queries), {j0, j0 + kColumns});
    if (!mask.needed) continue;
    const auto row_of_q = query_rows<T>(a, at, sequence);
    const auto row_of_g = out_rows(a, static_cast<const T*>(args.grad_out), at, sequence);
    const auto row_of_k = plain_rows_of_k<T>(a, at, sequence), row_of_v = plain_rows_of_v<T>(a, at, sequence);
    const int dim = static_cast<int>(a.head_dim);
    block_barrier();  // everybody is done with the sequence before
    load_tile<kThreads, Tiles::kRows>(tile_q, dim, aligned_q, [&](int row) { return row_of_q(i0 + row); });
    load_tile<kThreads, Tiles::kRows>(tile_g, dim, aligned_out, [&](int row) { return row_of_g(i0 + row); });
    load_tile<kThreads, kColumns>(tile_k, dim, aligned_kv, [&](int row) { return row_of_k(j0 + row); });
    load_tile<kThreads, kColumns>(tile_v, dim, aligned_kv, [&](int row) { return row_of_v(j0 + row); });
    commit_copies();
    wait_copies<0>();
    block_barrier();
    const RowOperand<T, kDim, 1, false> q(tile_q, row0), g(tile_g, row0);
    const QueryInfo<1> rows(sequence, content, row_at);
    const RowGradient gradients[2] = {row_gradient(args, sequence, row_at(0, 0)),
                                      row_gradient(args, sequence, row_at(0, 1))};
    float scores[1][kColumns / 8][4], grad_values[1][kColumns / 8][4];
    clear(scores);
    clear(grad_values);
    multiply_rows(scores, q, tile_k, 0);
    multiply_rows(grad_values, g, tile_v, 0);
    differentiate_rows<true, true>(scores, grad_values, scoring, dropout, sequence, gradients, mask, rows, content,
                                   row_at, j0);
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[0][n][e] += scores[0][n][e];
    }
  }
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t i = row_at(0, e / 2).i, j = j0 + accumulator_column(n, e);
      if (i < a.q_len && j < a.kv_len) args.grad_bias[(h * a.q_len + i) * a.kv_len + j] = sum[0][n][e];
    }
  }
}

template <class T>
void attention_backward(const AttentionBackwardArgs& args, Stream stream) {
  const char* op = "attention_backward";
  const AttentionArgs& a = args.forward;
  check_attention(op, a);
  ONDOL_CHECK(a.block_table == nullptr, "[", op, "] keys and values in blocks have no backward");
  const int64_t rows = a.batch * a.num_heads * a.q_len;
  if (rows > 0) {
    launch(op, attention_row_sums_kernel<T>, blocks_for(op, rows, kSumWarps), 32 * kSumWarps, 0, stream, args,
           aligned_outputs<T>(a, a.out) && aligned_outputs<T>(a, args.grad_out));
    with_head_dim<T>(a.head_dim, [&](auto dim) {
      constexpr int kDim = decltype(dim)::value;
      using Tiles = AttentionTiles<T, kDim>;
      const bool aligned_q = aligned_queries<T>(a, a.q), aligned_kv = aligned_keys<T>(a);
      const bool aligned_out = aligned_outputs<T>(a, args.grad_out);
      const int64_t row_tiles = (a.q_len + Tiles::kRows - 1) / Tiles::kRows;
      const size_t both_rows = 2 * tile_bytes<T>(Tiles::kRows, kDim);
      auto* kernel =
          needs_extras(a) ? attention_grad_q_kernel<T, kDim, true> : attention_grad_q_kernel<T, kDim, sizeof(T) == 4>;
      launch(op, kernel, blocks_for(op, row_tiles * a.batch * a.num_heads, 1), Tiles::kThreads,
             both_rows + 2 * tile_bytes<T>(Tiles::kBackwardStages * Tiles::kBackwardColumns, kDim) +
                 Tiles::kWarps * WeightExchange<T>::kBytes,
             stream, args, aligned_q, aligned_kv, aligned_out,
             aligned_rows<T>(a, args.grad_q, args.grad_q_stride_b, args.grad_q_stride_t, args.grad_q_stride_h));
      if (args.grad_bias == nullptr) return;
      const int64_t key_tiles = (a.kv_len + Tiles::kBackwardColumns - 1) / Tiles::kBackwardColumns;
      launch(op, attention_grad_bias_kernel<T, kDim>, blocks_for(op, key_tiles * row_tiles * a.num_heads, 1),
             Tiles::kThreads, both_rows + 2 * tile_bytes<T>(Tiles::kBackwardColumns, kDim), stream, args, aligned_q,
             aligned_kv, aligned_out);
    });
  }
  attention_backward_kv<T>(args, stream);
}

}  // namespace

void add_attention_backward_rows(KernelTable& table) {
  table.attention_backward.set(DType::f32, attention_backward<float>);
  table.attention_backward.set(DType::bf16, attention_backward<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
