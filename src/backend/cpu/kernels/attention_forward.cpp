// Attention with online softmax over tiles of keys (Milakov & Gimelshein 2018; Dao et al., "FlashAttention", 2022).
// A task is one block of queries of one head, or of all heads of a group when the queries are few (decoding), so that
// the keys and values are read once. Memory beyond the operands does not depend on the sequence length. Keys and values
// that lie in blocks of a table are collected tile by tile.
#include <cstring>

#include "backend/cpu/kernels/attention_tile.h"
#include "backend/cpu/kernels/gemm_few_rows.h"
#include "backend/cpu/kernels/pack.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {

/// The running maximum and sum of each lane, and the factor by which a new tile shrinks what was there.
struct SoftmaxState {
  float maximum[kQueryTile];
  float sum[kQueryTile];
  float decay[kQueryTile];
};

/// Turns kVectors columns of scores into exponentials and brings the state up to date. True when a decay is not 1.
template <int kVectors>
bool soften(float* scores, int64_t stride, int64_t keys, SoftmaxState& state, int64_t lane) {
  Floats maximum[kVectors], sum[kVectors];
  for (int v = 0; v < kVectors; ++v) maximum[v] = load(state.maximum + lane + v * kLanes);
  for (int64_t key = 0; key < keys; ++key) {
    const float* row = scores + key * stride + lane;
    for (int v = 0; v < kVectors; ++v) maximum[v] = max(load(row + v * kLanes), maximum[v]);
  }
  bool changed = false;
  for (int v = 0; v < kVectors; ++v) {
    const Floats before = load(state.maximum + lane + v * kLanes);
    store(state.maximum + lane + v * kLanes, maximum[v]);
    // Where nothing was visible yet, any finite number serves: the exponentials are 0.
    maximum[v] = select(maximum[v] == splat(-__builtin_inff()), splat(0.0f), maximum[v]);
    const Floats decay = exp_weight(before - maximum[v]);
    store(state.decay + lane + v * kLanes, decay);
    changed = changed || any(decay < splat(1.0f));
    sum[v] = splat(0.0f);
  }
  for (int64_t key = 0; key < keys; ++key) {
    float* row = scores + key * stride + lane;
    for (int v = 0; v < kVectors; ++v) {
      const Floats weight = exp_weight(load(row + v * kLanes) - maximum[v]);
      store(row + v * kLanes, weight);
      sum[v] = sum[v] + weight;
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    float* total = state.sum + lane + v * kLanes;
    store(total, fma(load(total), load(state.decay + lane + v * kLanes), sum[v]));
  }
  return changed;
}

template <class T>
class ForwardTask {
 public:
  explicit ForwardTask(const AttentionArgs& args) : args_(args) {
    const int64_t dim = args.head_dim;
    const int64_t tile = kKeyTile * kQueryTile;
    const int64_t dropout = args.dropout_p > 0.0f ? tile : 0;
    const int64_t collected = args.block_table != nullptr ? kKeyTile * dim : 0;
    const int64_t total = 3 * dim * kQueryTile + 2 * tile + dropout + 2 * kKeyTile * larger(dim, kFewRows) + collected;
    float* memory =
        static_cast<float*>(thread_scratch(ScratchSlot::attention, static_cast<size_t>(total) * sizeof(float)));
    const auto take = [&memory](int64_t count) { return (memory += count) - count; };
    queries_ = take(dim * kQueryTile);
    result_ = take(dim * kQueryTile);
    rows_ = take(dim * kQueryTile);
    scores_ = take(tile);
    workspace_ = take(tile);
    factors_ = take(dropout);
    keys_ = take(kKeyTile * dim);
    values_ = take(kKeyTile * larger(dim, kFewRows));  // or the weights of few queries
    collected_ = reinterpret_cast<T*>(take(collected));
  }

  void run(const QueryBlock& block) {
    const int64_t stride = block.padded_lanes();
    const int64_t dim = args_.head_dim;
    for (int64_t lane = 0; lane < stride; ++lane) {
      state_.maximum[lane] = -__builtin_inff();
      state_.sum[lane] = 0.0f;
    }
    pack_queries(args_, block, static_cast<const T*>(args_.q), args_.q_stride_b, args_.q_stride_t, args_.q_stride_h,
                 args_.scale, queries_, rows_);
    const KeyRange visible = visible_keys(args_, block);
    bool first = true;
    for (int64_t key = visible.begin; key < visible.end; key += kKeyTile) {
      const KeyRange tile{key, smaller(key + kKeyTile, visible.end)};
      if (!documents_meet(args_, block, tile)) continue;
      add_tile(block, tile, first);
      first = false;
    }
    for (int64_t i = 0; first && i < dim * stride; ++i) result_[i] = 0.0f;
    finish(block);
  }

 private:
  void add_tile(const QueryBlock& block, KeyRange tile, bool first) {
    const int64_t stride = block.padded_lanes(), count = tile.end - tile.begin, dim = args_.head_dim;
    const int64_t kv_head = block.head_begin / (args_.num_heads / args_.num_kv_heads);
    multiply_keys(block, count,
                  tile_rows(static_cast<const T*>(args_.k) + kv_head * args_.k_stride_h, args_.k_stride_b,
                            args_.k_stride_t, block.batch, tile));
    finish_scores<T>(args_, block, tile, scores_, workspace_, nullptr);
    bool changed = false;
    int64_t lane = 0;
    for (; lane + 4 * kLanes <= stride; lane += 4 * kLanes) {
      changed = soften<4>(scores_, stride, count, state_, lane) || changed;
    }
    for (; lane < stride; lane += kLanes) changed = soften<1>(scores_, stride, count, state_, lane) || changed;
    if (changed && !first) {
      for (int64_t d = 0; d < dim; ++d) {
        for (int64_t i = 0; i < stride; i += kLanes) {
          float* at = result_ + d * stride + i;
          store(at, load(at) * load(state_.decay + i));
        }
      }
    }
    if (args_.dropout_p > 0.0f) {
      dropout_factors(args_, block, tile, factors_, workspace_);
      for (int64_t i = 0; i < count * stride; i += kLanes) store(scores_ + i, load(scores_ + i) * load(factors_ + i));
    }
    multiply_values(block, count,
                    tile_rows(static_cast<const T*>(args_.v) + kv_head * args_.v_stride_h, args_.v_stride_b,
                              args_.v_stride_t, block.batch, tile),
                    first);
  }

  struct Rows {
    const T* data;
    int64_t stride;
  };

  /// The rows of a tile of k or v (of one head): where they lie, or collected from the blocks of the table.
  Rows tile_rows(const T* head, int64_t stride_b, int64_t stride_t, int64_t batch, KeyRange tile) {
    if (args_.block_table == nullptr) {
      return {head + key_offset(args_, batch, stride_b, stride_t) + tile.begin * stride_t, stride_t};
    }
    const int32_t* blocks = args_.block_table + batch * args_.block_table_stride;
    for (int64_t key = tile.begin; key < tile.end; ++key) {
      const T* row = head + blocks[key / args_.block_size] * stride_b + key % args_.block_size * stride_t;
      std::memcpy(collected_ + (key - tile.begin) * args_.head_dim, row,
                  static_cast<size_t>(args_.head_dim) * sizeof(T));
    }
    return {collected_, args_.head_dim};
  }

  /// scores_ (keys, lanes) = keys times queries. Few queries read the keys once and in place, many from a copy as f32.
  void multiply_keys(const QueryBlock& block, int64_t count, const Rows& k) {
    const int64_t stride = block.padded_lanes(), lanes = block.lanes(), dim = args_.head_dim;
    if (lanes > kFewRows) {
      const FloatRows keys = float_rows(k.data, k.stride, count, dim, k.stride % 1024 != 0, keys_);
      multiply_lanes(count, dim, keys.rows, keys.stride, false, queries_, stride, scores_, false);
      return;
    }
    pack_transposed(queries_, stride, lanes, dim, dim, rows_, dim);
    multiply_float_rows<T>(few_rows_product(lanes, count, dim, rows_, dim, k.data, k.stride, true));
    pack_transposed(workspace_, count, count, lanes, stride, scores_, stride);
  }

  /// result_ (head_dim, lanes) (+)= values times weights.
  void multiply_values(const QueryBlock& block, int64_t count, const Rows& v, bool first) {
    const int64_t stride = block.padded_lanes(), lanes = block.lanes(), dim = args_.head_dim;
    if (lanes > kFewRows) {
      const FloatRows values = float_rows(v.data, v.stride, count, dim, false, values_);
      multiply_lanes(dim, count, values.rows, values.stride, true, scores_, stride, result_, !first);
      return;
    }
    pack_transposed(scores_, stride, lanes, count, count, values_, count);
    multiply_float_rows<T>(few_rows_product(lanes, dim, count, values_, count, v.data, v.stride, false));
    float* out = first ? result_ : rows_;
    pack_transposed(workspace_, dim, dim, lanes, stride, out, stride);
    for (int64_t i = 0; !first && i < dim * stride; i += kLanes)
      store(result_ + i, load(result_ + i) + load(rows_ + i));
  }

  /// workspace_ (m, n) = a b.
  GemmArgs few_rows_product(int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const T* b, int64_t ldb,
                            bool trans_b) const {
    GemmArgs product{};
    product.a = a, product.b = b, product.c = workspace_;
    product.c_dtype = DType::f32;
    product.trans_b = trans_b;
    product.m = m, product.n = n, product.k = k;
    product.lda = lda, product.ldb = ldb, product.ldc = n;
    product.alpha = 1.0f;
    return product;
  }

  void finish(const QueryBlock& block) {
    const int64_t stride = block.padded_lanes();
    float inverse[kQueryTile];
    for (int64_t lane = 0; lane < stride; ++lane) {
      inverse[lane] = state_.sum[lane] > 0.0f ? 1.0f / state_.sum[lane] : state_.sum[lane];
    }
    for (int64_t d = 0; d < args_.head_dim; ++d) {
      for (int64_t i = 0; i < stride; i += kLanes) {
        float* at = result_ + d * stride + i;
        store(at, load(at) * load(inverse + i));
      }
    }
    unpack_queries(args_, block, result_, static_cast<T*>(args_.out), args_.out_stride_b, args_.out_stride_t,
                   args_.out_stride_h, rows_);
    if (args_.lse == nullptr) return;
    for (int64_t i = 0; i < stride; i += kLanes) {
      store(inverse + i, load(state_.maximum + i) + log(load(state_.sum + i)));
    }
    for (int64_t lane = 0; lane < block.lanes(); ++lane) {
      args_.lse[row_of(args_, block.batch, block.head_of(lane), block.query_of(lane))] = inverse[lane];
    }
  }

  const AttentionArgs& args_;
  SoftmaxState state_;
  float *queries_, *result_, *rows_, *scores_, *workspace_, *factors_, *keys_, *values_;
  T* collected_;
};

template <class T>
void attention(const AttentionArgs& args, Stream) {
  if (args.batch == 0 || args.q_len == 0 || args.num_heads == 0) return;
  const int64_t group = args.num_heads / args.num_kv_heads;
  const int64_t heads = args.q_len * group <= kQueryTile ? group : 1;
  const int64_t block_queries = kQueryTile / heads;
  const int64_t blocks = ceil_div(args.q_len, block_queries);
  const int64_t head_blocks = args.num_heads / heads;
  const double flops = 4.0 * static_cast<double>(args.batch * args.num_heads * args.head_dim) *
                       static_cast<double>(args.q_len) * static_cast<double>(args.kv_len);
  run_tasks(args.batch * head_blocks * blocks, flops < kParallelFlops ? 1 : num_threads(), [&] {
    return [&args, task = ForwardTask<T>(args), heads, block_queries, blocks, head_blocks](int64_t index) mutable {
      // The last queries see the most keys: they come first, so that no thread is left with a long one at the end.
      const int64_t query = (blocks - 1 - index / (args.batch * head_blocks)) * block_queries;
      const int64_t head = index % head_blocks * heads;
      const int64_t batch = index / head_blocks % args.batch;
      const int64_t queries = smaller(block_queries, query_count(args, batch) - query);
      if (queries > 0) task.run({batch, head, heads, query, queries});
    };
  });
}

}  // namespace

void add_attention_rows(KernelTable& table) {
  table.attention.set(DType::f32, attention<float>);
  table.attention.set(DType::bf16, attention<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
