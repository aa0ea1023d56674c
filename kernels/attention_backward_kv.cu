// The gradients of keys and values (attention_backward.cu has the rest).
//
// Formula: grad_v = sum p d grad_out, grad_k = sum ds cap' scale q, over the queries of all heads that share the key.
// Mapping: a block for each tile of 16 keys a warp of one key head; it goes through the query heads of the group and
//          their tiles of queries. Scores are kept transposed, (keys, queries), so that both products take them from
//          registers as they are. Tiles of keys with the most queries come first. Rows longer than 256 bytes in bf16
//          (512 in f32) compute the two gradients in two launches: both would not fit in registers.
// Accumulation: f32, heads and queries in order, no atomics; p and ds are rounded to bf16 for the products.
// Shared memory: rows of k and v and two stages of q, grad_out, lse and delta: 49 KiB at bf16 D = 64, 65 at D = 128.
// Tuning: AttentionTiles, untuned: not run on a GPU yet.
#include "attention.h"
#include "attention_rows.h"
#include "device/attention_tiles.cuh"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

enum class Gradients { both, keys, values };

/// -infinity where a key (row, the first is j0) is not seen by a query (column, i0 ...).
template <int kBlocks>
__device__ inline void hide_queries(float (&products)[1][kBlocks][4], const Sequence& sequence, const Content& content,
                                    int j0, int i0) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int j = j0 + accumulator_row(2 * half);
    const bool present = j < sequence.keys && content.shows(j);
    const int32_t document = present ? content.key_document(j) : 0;
#pragma unroll
    for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = i0 + accumulator_column(n, e);
        const bool visible =
            present && i < sequence.queries && sequence.keys_of(i).contains(j) && content.query_document(i) == document;
        if (!visible) products[0][n][2 * half + e] = -INFINITY;
      }
    }
  }
}

template <class T, int kDim, Gradients kGradients, bool kExtras>
__global__ void __launch_bounds__(AttentionTiles<T, kDim>::kThreads, 2)
    attention_grad_kv_kernel(AttentionBackwardArgs args, bool aligned_q, bool aligned_kv, bool aligned_out,
                             bool aligned_grad) {
  using Tiles = AttentionTiles<T, kDim>;
  constexpr int kColumns = Tiles::gradient_columns(kExtras), kThreads = Tiles::kThreads,
                kStages = Tiles::kBackwardStages;
  constexpr bool kKeys = kGradients != Gradients::values, kValues = kGradients != Gradients::keys;
  const AttentionArgs& a = args.forward;
  SharedMemory shared;
  const auto tile_k = Tile<T, kDim>::take(shared, Tiles::kRows);
  const auto tile_v = Tile<T, kDim>::take(shared, Tiles::kRows);
  const auto tile_q = Tile<T, kDim>::take(shared, kStages * kColumns);
  const auto tile_g = Tile<T, kDim>::take(shared, kStages * kColumns);
  float* const lse_of_column = shared.take<float>(kStages * kColumns);
  float* const delta_of_column = shared.take<float>(kStages * kColumns);
  const auto exchange = WeightExchange<T>::take(shared, Tiles::kWarps);

  const int64_t key_heads = a.batch * a.num_kv_heads;
  const int64_t number = blockIdx.x % key_heads, b = number / a.num_kv_heads;
  const int j0 = static_cast<int>(blockIdx.x / key_heads * Tiles::kRows);
  const int group = static_cast<int>(a.num_heads / a.num_kv_heads);
  const Head at(a, b, number % a.num_kv_heads * group);
  const Sequence sequence(a, b);
  const int keys_stored = sequence.unpadded ? sequence.keys : static_cast<int>(a.kv_len);
  if (j0 >= keys_stored) return;
  const Content content(a, b);
  const Scoring<T> scoring(a, b);
  const WeightDropout dropout(a, b);
  const int dim = static_cast<int>(a.head_dim), row0 = 16 * warp_index();
  const Range keys{j0, smaller(j0 + Tiles::kRows, sequence.keys)};
  // The queries that see any of these keys, in whole tiles.
  Range queries{0, 0};
  if (!keys.empty()) queries = {sequence.queries_of(keys.begin).begin, sequence.queries_of(keys.end - 1).end};
  queries.begin = queries.begin / kColumns * kColumns;

  const auto row_of_k = plain_rows_of_k<T>(a, at, sequence), row_of_v = plain_rows_of_v<T>(a, at, sequence);
  load_tile<kThreads, Tiles::kRows>(tile_k, dim, aligned_kv, [&](int row) { return row_of_k(j0 + row); });
  load_tile<kThreads, Tiles::kRows>(tile_v, dim, aligned_kv, [&](int row) { return row_of_v(j0 + row); });
  commit_copies();

  const auto load = [&](int head, int i, int stage) {
    Head of = at;
    of.h += head;
    const auto row_of_q = query_rows<T>(a, of, sequence);
    const auto row_of_g = out_rows(a, static_cast<const T*>(args.grad_out), of, sequence);
    load_tile<kThreads, kColumns>(tile_q.from(stage * kColumns), dim, aligned_q,
                                  [&](int row) { return row_of_q(i + row); });
    load_tile<kThreads, kColumns>(tile_g.from(stage * kColumns), dim, aligned_out,
                                  [&](int row) { return row_of_g(i + row); });
    for (int c = static_cast<int>(threadIdx.x); c < kColumns; c += kThreads) {
      const bool present = i + c < sequence.queries;
      const int64_t row = sequence.row(of.h, present ? i + c : 0);
      copy_async_4(lse_of_column + stage * kColumns + c, a.lse + row, present);
      copy_async_4(delta_of_column + stage * kColumns + c, args.workspace + row, present);
    }
  };
  // The next tile of queries that sees these keys, from (head, i) on; head == group: none.
  int head = 0, i = queries.begin;
  TileMask next_mask{};
  const auto advance = [&] {
    for (; head < group; ++head, i = queries.begin) {
      for (; i < queries.end; i += kColumns) {
        const Range tile{i, smaller(i + kColumns, sequence.queries)};
        next_mask = tile_mask(sequence, content, QueryTile(sequence, content, tile), {j0, j0 + Tiles::kRows});
        if (next_mask.needed) return;
      }
    }
  };
  advance();
  if (kStages == 2 && head < group) load(head, i, 0);
  commit_copies();
  wait_copies<1>();
  block_barrier();
  const RowOperand<T, kDim, 1, Tiles::kBackwardResident> k(tile_k, row0), v(tile_v, row0);
  float grad_k[1][kKeys ? kDim / 8 : 1][4], grad_v[1][kValues ? kDim / 8 : 1][4];
  clear(grad_k);
  clear(grad_v);

  int stage = 0;
  while (head < group) {
    const int64_t h = at.h + head;
    const int i0 = i;
    const TileMask mask = next_mask;
    const int this_head = head;
    i += kColumns;
    advance();
    if (kStages == 1) {
      block_barrier();  // everybody is done with the tile before
      load(this_head, i0, 0);
      commit_copies();
    }
    wait_copies<0>();
    block_barrier();
    if (kStages == 2) {
      if (head < group) load(head, i, stage ^ 1);
      commit_copies();
    }
    const auto stage_q = tile_q.from(stage * kColumns), stage_g = tile_g.from(stage * kColumns);
    float products[1][kColumns / 8][4], grad_values[1][kColumns / 8][4];
    clear(products);
    clear(grad_values);
    multiply_rows(products, k, stage_q, 0);
    if constexpr (kKeys) multiply_rows(grad_values, v, stage_g, 0);
    KeptWeightsOfKeys kept{};
    if (kExtras && dropout.on()) {
      kept = KeptWeightsOfKeys::of<kColumns / 8>(dropout, sequence, h, i0, j0 + row0);
    }
    if (mask.partial) hide_queries(products, sequence, content, j0 + row0, i0);
      // products become the weights of grad_out, grad_values the gradients of the products.
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      const int column = accumulator_column(n, 0);
      const Floats<2> lse = load_floats<2>(lse_of_column + stage * kColumns + column);
      const Floats<2> delta = load_floats<2>(delta_of_column + stage * kColumns + column);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool keeps = !kExtras || !dropout.on() || kept(n, e);
        float& product = products[0][n][e];
        float& grad_value = grad_values[0][n][e];
        const PairGradient pair = pair_gradient<kExtras>(
            scoring, sequence, product, grad_value, RowGradient::from(lse[e % 2], delta[e % 2]), keeps, dropout.kept,
            QueryAt{i0 + column + e % 2, h}, j0 + row0 + accumulator_row(e));
        product = pair.kept;
        grad_value = pair.product;
      }
    }
    if constexpr (kValues) accumulate_product(grad_v, products, stage_g, 0, exchange);
    if constexpr (kKeys) accumulate_product(grad_k, grad_values, stage_q, 0, exchange);
    if (kStages == 2) stage ^= 1;
  }

  const auto store = [&](const auto& value, float factor, Tile<T, kDim> staging, void* out, int64_t stride_b,
                         int64_t stride_t, int64_t stride_h) {
    const float finish[1][2] = {{factor, factor}};
    const QueryRows<T> target{static_cast<T*>(out) + sequence.key_offset(stride_b, stride_t, b) + at.kv_h * stride_h,
                              stride_t, keys_stored};
    store_rows(value, finish, staging, row0, dim, aligned_grad, [&](int row) { return target(j0 + row); });
  };
  if constexpr (kKeys) {
    store(grad_k, a.scale, tile_k, args.grad_k, args.grad_k_stride_b, args.grad_k_stride_t, args.grad_k_stride_h);
  }
  if constexpr (kValues) {
    store(grad_v, dropout.kept, tile_v, args.grad_v, args.grad_v_stride_b, args.grad_v_stride_t, args.grad_v_stride_h);
  }
}

template <class T, int kDim, Gradients kGradients>
void run(const AttentionBackwardArgs& args, Stream stream) {
  using Tiles = AttentionTiles<T, kDim>;
  const char* op = "attention_backward";
  const AttentionArgs& a = args.forward;
  const int64_t tiles = (a.kv_len + Tiles::kRows - 1) / Tiles::kRows;
  const bool extras = needs_extras(a) || sizeof(T) == 4;
  const int columns = Tiles::kBackwardStages * Tiles::gradient_columns(extras);
  auto* kernel = extras ? attention_grad_kv_kernel<T, kDim, kGradients, true>
                        : attention_grad_kv_kernel<T, kDim, kGradients, sizeof(T) == 4>;
  launch(op, kernel, blocks_for(op, tiles * a.batch * a.num_kv_heads, 1), Tiles::kThreads,
         2 * tile_bytes<T>(Tiles::kRows, kDim) + 2 * tile_bytes<T>(columns, kDim) + 2 * shared_bytes<float>(columns) +
             Tiles::kWarps * WeightExchange<T>::kBytes,
         stream, args, aligned_queries<T>(a, a.q), aligned_keys<T>(a), aligned_outputs<T>(a, args.grad_out),
         aligned_rows<T>(a, args.grad_k, args.grad_k_stride_b, args.grad_k_stride_t, args.grad_k_stride_h) &&
             aligned_rows<T>(a, args.grad_v, args.grad_v_stride_b, args.grad_v_stride_t, args.grad_v_stride_h));
}

}  // namespace

template <class T>
void attention_backward_kv(const AttentionBackwardArgs& args, Stream stream) {
  if (args.forward.batch * args.forward.num_kv_heads * args.forward.kv_len == 0) return;
  with_head_dim<T>(args.forward.head_dim, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    if constexpr (kDim <= 128) {
      run<T, kDim, Gradients::both>(args, stream);
    } else {
      run<T, kDim, Gradients::keys>(args, stream);
      run<T, kDim, Gradients::values>(args, stream);
    }
  });
}

template void attention_backward_kv<float>(const AttentionBackwardArgs&, Stream);
template void attention_backward_kv<bfloat16>(const AttentionBackwardArgs&, Stream);

}  // namespace ondol::ONDOL_CUDA_SPACE
