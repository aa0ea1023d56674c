// The backward of attention from the saved logsumexp (Dao et al., "FlashAttention", 2022), with the order of every sum
// fixed: the gradient of a key or value adds the query heads of its group and then the blocks of queries in ascending
// order, that of a query the tiles of keys in ascending order. Two schedules keep to that order and give the same
// bytes:
// - with enough sequences and heads, a task is one key head and computes each tile of scores once;
// - otherwise a task is one tile of keys (grad_k, grad_v) or one block of queries (grad_q, grad_bias).
#include <cstring>

#include "backend/cpu/kernels/attention_tile.h"
#include "backend/cpu/kernels/pack.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/scratch.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {

/// A block of queries of one head with all that the products need of it.
struct PackedBlock {
  QueryBlock block;
  float* queries;     // (head_dim, lanes), scaled
  float* gradients;   // (head_dim, lanes) of grad_out
  float* query_rows;  // (lanes, padded head_dim)
  float* gradient_rows;
  float lse[kQueryTile];
  float delta[kQueryTile];  // sum of grad_out * out
};

float* take(float*& memory, int64_t count) { return (memory += round_up(count, 16)) - round_up(count, 16); }

template <class T>
class BackwardTask {
 public:
  /// Memory for `blocks` packed blocks at a time and gradients of `keys` keys.
  BackwardTask(const AttentionBackwardArgs& args, int64_t blocks, int64_t keys)
      : args_(args), f_(args.forward), dim_(f_.head_dim), padded_dim_(round_up(dim_, kLanes)) {
    const int64_t tile = kKeyTile * kQueryTile, packed = kQueryTile * padded_dim_;
    const int64_t per_block = ceil_div(static_cast<int64_t>(sizeof(PackedBlock)), 64) * 16 + 5 * packed;
    const int64_t total =
        blocks * per_block + 2 * round_up(keys, kKeyTile) * padded_dim_ + 5 * tile + packed + 2 * kKeyTile * dim_ + 256;
    float* memory =
        static_cast<float*>(thread_scratch(ScratchSlot::attention, static_cast<size_t>(total) * sizeof(float)));
    blocks_ = reinterpret_cast<PackedBlock*>(
        take(memory, blocks * ceil_div(static_cast<int64_t>(sizeof(PackedBlock)), 64) * 16));
    for (int64_t i = 0; i < blocks; ++i) {
      blocks_[i].queries = take(memory, packed);
      blocks_[i].gradients = take(memory, packed);
      blocks_[i].query_rows = take(memory, packed);
      blocks_[i].gradient_rows = take(memory, packed);
    }
    grad_queries_ = take(memory, blocks * packed);
    grad_keys_ = take(memory, round_up(keys, kKeyTile) * padded_dim_);
    grad_values_ = take(memory, round_up(keys, kKeyTile) * padded_dim_);
    scores_ = take(memory, tile);
    score_gradients_ = take(memory, tile);
    slope_ = take(memory, tile);
    factors_ = take(memory, tile);
    workspace_ = take(memory, tile);
    rows_ = take(memory, packed);
    key_copy_ = take(memory, kKeyTile * dim_);
    value_copy_ = take(memory, kKeyTile * dim_);
  }

  /// All gradients of one key head (no grad_bias).
  void run_key_head(int64_t batch, int64_t kv_head) {
    const int64_t group = f_.num_heads / f_.num_kv_heads, keys = key_count(f_, batch);
    const int64_t blocks = ceil_div(query_count(f_, batch), kQueryTile);
    clear(grad_keys_, keys * padded_dim_);
    clear(grad_values_, keys * padded_dim_);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t i = 0; i < blocks; ++i) pack_block(blocks_[i], batch, head, i * kQueryTile);
      clear(grad_queries_, blocks * kQueryTile * padded_dim_);
      for (int64_t key = 0; key < keys; key += kKeyTile) {
        load_tile(batch, kv_head, key);
        for (int64_t i = 0; i < blocks; ++i) {
          KeyRange tile;
          if (!find_tile(blocks_[i].block, key, tile)) continue;
          differentiate(blocks_[i], tile);
          add_to_keys(blocks_[i], tile, key);
          add_to_queries(blocks_[i], tile, grad_queries_ + i * kQueryTile * padded_dim_);
        }
      }
      for (int64_t i = 0; i < blocks; ++i) {
        write_queries(blocks_[i].block, grad_queries_ + i * kQueryTile * padded_dim_);
      }
    }
    write_keys(batch, kv_head, 0, keys);
  }

  /// grad_k and grad_v of one tile of keys.
  void run_key_tile(int64_t batch, int64_t kv_head, int64_t key) {
    const int64_t group = f_.num_heads / f_.num_kv_heads, count = smaller(kKeyTile, key_count(f_, batch) - key);
    if (count <= 0) return;
    const int64_t queries = query_count(f_, batch);
    clear(grad_keys_, count * padded_dim_);
    clear(grad_values_, count * padded_dim_);
    load_tile(batch, kv_head, key);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t query = 0; query < queries; query += kQueryTile) {
        KeyRange tile;
        if (!find_tile({batch, head, 1, query, smaller(kQueryTile, queries - query)}, key, tile)) continue;
        pack_block(blocks_[0], batch, head, query);
        differentiate(blocks_[0], tile);
        add_to_keys(blocks_[0], tile, 0);
      }
    }
    write_keys(batch, kv_head, key, count);
  }

  /// grad_q of one block of queries and, when `bias`, its addition to grad_bias.
  void run_query_block(int64_t batch, int64_t head, int64_t query, bool bias) {
    if (query >= query_count(f_, batch)) return;
    pack_block(blocks_[0], batch, head, query);
    clear(grad_queries_, kQueryTile * padded_dim_);
    const KeyRange visible = visible_keys(f_, blocks_[0].block);
    for (int64_t key = visible.begin; key < visible.end; key += kKeyTile) {
      KeyRange tile;
      if (!find_tile(blocks_[0].block, key, tile)) continue;
      load_tile(batch, head / (f_.num_heads / f_.num_kv_heads), key);
      differentiate(blocks_[0], tile, bias);
      add_to_queries(blocks_[0], tile, grad_queries_);
    }
    write_queries(blocks_[0].block, grad_queries_);
  }

 private:
  static void clear(float* out, int64_t count) { std::memset(out, 0, static_cast<size_t>(count) * sizeof(float)); }

  void pack_block(PackedBlock& packed, int64_t batch, int64_t head, int64_t query) {
    const QueryBlock block{batch, head, 1, query, smaller(kQueryTile, query_count(f_, batch) - query)};
    packed.block = block;
    const T* q = static_cast<const T*>(f_.q);
    const T* grad_out = static_cast<const T*>(args_.grad_out);
    pack_queries(f_, block, q, f_.q_stride_b, f_.q_stride_t, f_.q_stride_h, f_.scale, packed.queries, rows_);
    pack_queries(f_, block, grad_out, f_.out_stride_b, f_.out_stride_t, f_.out_stride_h, 1.0f, packed.gradients, rows_);
    pack_rows(q + query_offset(f_, batch, f_.q_stride_b, f_.q_stride_t) + head * f_.q_stride_h + query * f_.q_stride_t,
              f_.q_stride_t, block.queries, dim_, padded_dim_, packed.query_rows, padded_dim_);
    pack_rows(grad_out + query_offset(f_, batch, f_.out_stride_b, f_.out_stride_t) + head * f_.out_stride_h +
                  query * f_.out_stride_t,
              f_.out_stride_t, block.queries, dim_, padded_dim_, packed.gradient_rows, padded_dim_);
    const int64_t row = row_of(f_, batch, head, query);
    for (int64_t lane = 0; lane < block.padded_lanes(); ++lane) {
      const bool present = lane < block.lanes() && f_.lse[row + lane] != -__builtin_inff();
      packed.lse[lane] = present ? f_.lse[row + lane] : __builtin_inff();  // exp(score - infinity): no weight
      packed.delta[lane] = present ? args_.workspace[row + lane] : 0.0f;
    }
  }

  void load_tile(int64_t batch, int64_t kv_head, int64_t key) {
    const int64_t count = smaller(kKeyTile, key_count(f_, batch) - key);
    const T* k = static_cast<const T*>(f_.k) + key_offset(f_, batch, f_.k_stride_b, f_.k_stride_t) +
                 kv_head * f_.k_stride_h + key * f_.k_stride_t;
    const T* v = static_cast<const T*>(f_.v) + key_offset(f_, batch, f_.v_stride_b, f_.v_stride_t) +
                 kv_head * f_.v_stride_h + key * f_.v_stride_t;
    keys_ = float_rows(k, f_.k_stride_t, count, dim_, false, key_copy_);
    values_ = float_rows(v, f_.v_stride_t, count, dim_, false, value_copy_);
  }

  /// The part of the tile at `key` that the block sees; false when it is empty.
  bool find_tile(const QueryBlock& block, int64_t key, KeyRange& tile) const {
    const KeyRange visible = visible_keys(f_, block);
    tile = {key, smaller(key + kKeyTile, visible.end)};
    return key >= visible.begin && key < visible.end && documents_meet(f_, block, tile);
  }

  /// scores_ <- the weights as they met the values, score_gradients_ <- the gradient of the scaled products q k.
  void differentiate(const PackedBlock& packed, KeyRange tile, bool bias = false) {
    const int64_t stride = packed.block.padded_lanes(), count = tile.end - tile.begin;
    const bool capped = f_.softcap > 0.0f, dropped = f_.dropout_p > 0.0f;
    multiply_lanes(count, dim_, keys_.rows, keys_.stride, false, packed.queries, stride, scores_, false);
    finish_scores<T>(f_, packed.block, tile, scores_, workspace_, slope_);
    multiply_lanes(count, dim_, values_.rows, values_.stride, false, packed.gradients, stride, score_gradients_, false);
    if (dropped) dropout_factors(f_, packed.block, tile, factors_, workspace_);
    for (int64_t key = 0; key < count; ++key) {
      for (int64_t lane = 0; lane < stride; lane += kLanes) {
        const int64_t at = key * stride + lane;
        const Floats weight = exp_weight(load(scores_ + at) - load(packed.lse + lane));
        const Floats factor = dropped ? load(factors_ + at) : splat(1.0f);
        const Floats weight_gradient = load(score_gradients_ + at) * factor;
        store(scores_ + at, weight * factor);
        store(score_gradients_ + at, weight * (weight_gradient - load(packed.delta + lane)));
      }
    }
    if (bias) add_to_bias(packed.block, tile);
    if (!capped) return;
    for (int64_t i = 0; i < count * stride; i += kLanes) {
      store(score_gradients_ + i, load(score_gradients_ + i) * load(slope_ + i));
    }
  }

  void add_to_keys(const PackedBlock& packed, KeyRange tile, int64_t at) {
    const int64_t count = tile.end - tile.begin, lanes = packed.block.lanes(), stride = packed.block.padded_lanes();
    multiply_lanes(count, lanes, scores_, stride, false, packed.gradient_rows, padded_dim_,
                   grad_values_ + at * padded_dim_, true);
    multiply_lanes(count, lanes, score_gradients_, stride, false, packed.query_rows, padded_dim_,
                   grad_keys_ + at * padded_dim_, true);
  }

  void add_to_queries(const PackedBlock& packed, KeyRange tile, float* grad_queries) {
    multiply_lanes(dim_, tile.end - tile.begin, keys_.rows, keys_.stride, true, score_gradients_,
                   packed.block.padded_lanes(), grad_queries, true);
  }

  void add_to_bias(const QueryBlock& block, KeyRange tile) {
    const int64_t count = tile.end - tile.begin;
    pack_transposed(score_gradients_, block.padded_lanes(), block.lanes(), count, count, workspace_, count);
    for (int64_t lane = 0; lane < block.lanes(); ++lane) {
      float* out = args_.grad_bias + (block.head_begin * f_.q_len + block.query_begin + lane) * f_.kv_len + tile.begin;
      const float* in = workspace_ + lane * count;
      for_each_vector(
          count, [&](int64_t i, auto n) { store_lanes(out + i, load_lanes(out + i, n) + load_lanes(in + i, n), n); });
    }
  }

  void write_queries(const QueryBlock& block, float* grad_queries) {
    for (int64_t i = 0; i < dim_ * block.padded_lanes(); i += kLanes) {
      store(grad_queries + i, load(grad_queries + i) * splat(f_.scale));
    }
    unpack_queries(f_, block, grad_queries, static_cast<T*>(args_.grad_q), args_.grad_q_stride_b, args_.grad_q_stride_t,
                   args_.grad_q_stride_h, rows_);
  }

  void write_keys(int64_t batch, int64_t kv_head, int64_t key, int64_t count) {
    T* grad_k = static_cast<T*>(args_.grad_k) + key_offset(f_, batch, args_.grad_k_stride_b, args_.grad_k_stride_t) +
                kv_head * args_.grad_k_stride_h + key * args_.grad_k_stride_t;
    T* grad_v = static_cast<T*>(args_.grad_v) + key_offset(f_, batch, args_.grad_v_stride_b, args_.grad_v_stride_t) +
                kv_head * args_.grad_v_stride_h + key * args_.grad_v_stride_t;
    for (int64_t row = 0; row < count; ++row) {
      const float* from_k = grad_keys_ + row * padded_dim_;
      const float* from_v = grad_values_ + row * padded_dim_;
      for_each_vector(dim_, [&](int64_t i, auto n) {
        store_lanes(grad_k + row * args_.grad_k_stride_t + i, load_lanes(from_k + i, n) * splat(f_.scale), n);
        store_lanes(grad_v + row * args_.grad_v_stride_t + i, load_lanes(from_v + i, n), n);
      });
    }
  }

  const AttentionBackwardArgs& args_;
  const AttentionArgs& f_;
  const int64_t dim_, padded_dim_;
  PackedBlock* blocks_;
  FloatRows keys_, values_;
  float *grad_queries_, *grad_keys_, *grad_values_, *scores_, *score_gradients_, *slope_, *factors_, *workspace_;
  float *rows_, *key_copy_, *value_copy_;
};

/// workspace[row of (b, h, i)] = sum of grad_out * out over the head.
template <class T>
void sum_products(const AttentionBackwardArgs& args) {
  const AttentionArgs& f = args.forward;
  const int64_t rows = f.batch * f.num_heads * f.q_len;
  parallel_for(rows, larger(1, 32768 / f.head_dim), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t query = row % f.q_len, head = row / f.q_len % f.num_heads, batch = row / f.q_len / f.num_heads;
      if (query >= query_count(f, batch)) continue;
      const int64_t offset =
          query_offset(f, batch, f.out_stride_b, f.out_stride_t) + query * f.out_stride_t + head * f.out_stride_h;
      const T* out = static_cast<const T*>(f.out) + offset;
      const T* grad_out = static_cast<const T*>(args.grad_out) + offset;
      Floats sum = splat(0.0f);
      for_each_vector(f.head_dim,
                      [&](int64_t i, auto n) { sum = fma(load_lanes(out + i, n), load_lanes(grad_out + i, n), sum); });
      args.workspace[row_of(f, batch, head, query)] = reduce_sum(sum);
    }
  });
}

template <class T>
void attention_backward(const AttentionBackwardArgs& args, Stream) {
  const AttentionArgs& f = args.forward;
  if (f.batch == 0 || f.num_heads == 0) return;
  sum_products<T>(args);
  const double flops = 10.0 * static_cast<double>(f.batch * f.num_heads * f.head_dim) * static_cast<double>(f.q_len) *
                       static_cast<double>(f.kv_len);
  const int64_t workers = flops < kParallelFlops ? 1 : num_threads();
  const int64_t blocks = ceil_div(f.q_len, kQueryTile);
  const int64_t key_heads = f.batch * f.num_kv_heads;
  if (args.grad_bias == nullptr && (workers == 1 || key_heads >= 2 * workers)) {
    run_tasks(key_heads, workers, [&] {
      return [&f, task = BackwardTask<T>(args, blocks, f.kv_len)](int64_t index) mutable {
        task.run_key_head(index / f.num_kv_heads, index % f.num_kv_heads);
      };
    });
    return;
  }
  const int64_t tiles = ceil_div(f.kv_len, kKeyTile);
  run_tasks(key_heads * tiles, workers, [&] {
    return [&f, key_heads, task = BackwardTask<T>(args, 1, kKeyTile)](int64_t index) mutable {
      const int64_t key_head = index % key_heads;
      task.run_key_tile(key_head / f.num_kv_heads, key_head % f.num_kv_heads, index / key_heads * kKeyTile);
    };
  });
  if (args.grad_bias == nullptr) {
    run_tasks(f.batch * f.num_heads * blocks, workers, [&] {
      return [&f, blocks, task = BackwardTask<T>(args, 1, 1)](int64_t index) mutable {
        const int64_t row = index % (f.batch * f.num_heads);
        const int64_t block = blocks - 1 - index / (f.batch * f.num_heads);
        task.run_query_block(row / f.num_heads, row % f.num_heads, block * kQueryTile, false);
      };
    });
    return;
  }
  // grad_bias is a sum over the batch: one task takes a block of queries through all sequences.
  run_tasks(f.num_heads * blocks, workers, [&] {
    return [&args, &f, task = BackwardTask<T>(args, 1, 1)](int64_t index) mutable {
      const int64_t head = index % f.num_heads, query = index / f.num_heads * kQueryTile;
      const int64_t rows = smaller(kQueryTile, f.q_len - query);
      std::memset(args.grad_bias + (head * f.q_len + query) * f.kv_len, 0,
                  static_cast<size_t>(rows * f.kv_len) * sizeof(float));
      for (int64_t batch = 0; batch < f.batch; ++batch) task.run_query_block(batch, head, query, true);
    };
  });
}

}  // namespace

void add_attention_backward_rows(KernelTable& table) {
  table.attention_backward.set(DType::f32, attention_backward<float>);
  table.attention_backward.set(DType::bf16, attention_backward<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
