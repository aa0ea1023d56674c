// The blocks of the attention kernels: tile sizes, where rows of q, k and v lie, the masks and weights of a warp's
// accumulators, and the online softmax (Milakov & Gimelshein 2018; Dao et al., "FlashAttention", 2022).
#pragma once

#include "device/attention.cuh"
#include "device/tile_product.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// Tile sizes by the bytes of a row, chosen so that a block stays within kMaxSharedBytes. A warp owns 16 rows; kColumns
/// keys (queries, for the gradients of keys and values) are in shared memory at a time. Untuned: not run on a GPU yet.
template <class T, int kDim>
struct AttentionTiles {
  static constexpr int kRowBytes = kDim * static_cast<int>(sizeof(T));
  static constexpr int kWarps = kRowBytes > 512 ? 2 : 4;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kWarps;
  static constexpr bool kResident = kDim <= 128;  // fragments of the rows stay in registers

  static constexpr int kForwardColumns = kRowBytes <= 256 ? 64 : kRowBytes <= 512 ? 32 : 16;
  static constexpr int kDecodeWarps = kForwardColumns / 16;
  static constexpr int kBackwardColumns = kRowBytes <= 64 ? 64 : kRowBytes <= 256 ? 32 : 16;
  static constexpr int kBackwardStages = kRowBytes > 512 ? 1 : 2;
  static constexpr bool kBackwardResident = kDim <= 32;

  /// Queries at a time of the gradients of keys and values. Bias, soft cap and dropout take registers that the tensor
  /// cores' accumulators would need: fewer columns then, so that nothing spills.
  static constexpr int gradient_columns(bool extras) {
    if (!extras || sizeof(T) == 4) return kBackwardColumns;
    return kDim == 128 ? 16 : kDim == 32 ? 32 : kBackwardColumns;
  }
};

/// Which head of which sequence, and where its rows begin.
struct Head {
  int64_t b, h, kv_h;
  __device__ Head(const AttentionArgs& a, int64_t batch, int64_t head)
      : b(batch), h(head), kv_h(head / (a.num_heads / a.num_kv_heads)) {}
};

/// Rows of q or of what has its layout: null outside the sequence.
template <class T>
struct QueryRows {
  T* base;
  int64_t stride;
  int count;
  __device__ T* operator()(int i) const { return i < count ? base + i * stride : nullptr; }
};
template <class T>
__device__ inline QueryRows<const T> query_rows(const AttentionArgs& a, const Head& at, const Sequence& s) {
  return {static_cast<const T*>(a.q) + s.query_offset(a.q_stride_b, a.q_stride_t, at.b) + at.h * a.q_stride_h,
          a.q_stride_t, s.queries};
}
/// The same for tensors with the strides of out.
template <class T>
__device__ inline QueryRows<T> out_rows(const AttentionArgs& a, T* out, const Head& at, const Sequence& s) {
  return {out + s.query_offset(a.out_stride_b, a.out_stride_t, at.b) + at.h * a.out_stride_h, a.out_stride_t,
          s.queries};
}

/// Rows of k or v, which may lie in blocks of a table: null outside the sequence and for blocks that do not exist.
template <class T>
struct KeyRows {
  const T* base;
  int64_t stride;
  int count;
  const int32_t* blocks;  // null: one row after the other
  int64_t block_stride;
  int block_size, num_blocks;
  __device__ const T* operator()(int j) const {
    if (j >= count) return nullptr;
    if (blocks == nullptr) return base + j * stride;
    const int block = blocks[j / block_size];
    if (block < 0 || block >= num_blocks) return nullptr;
    return base + block * block_stride + j % block_size * stride;
  }
};
template <class T>
__device__ inline KeyRows<T> key_rows(const AttentionArgs& a, const void* data, int64_t stride_b, int64_t stride_t,
                                      int64_t stride_h, const Head& at, const Sequence& s) {
  const T* head = static_cast<const T*>(data) + at.kv_h * stride_h;
  if (a.block_table == nullptr) {
    return {head + s.key_offset(stride_b, stride_t, at.b), stride_t, s.keys, nullptr, 0, 1, 0};
  }
  return {head,
          stride_t,
          s.keys,
          a.block_table + at.b * a.block_table_stride,
          stride_b,
          static_cast<int>(a.block_size),
          static_cast<int>(a.num_blocks)};
}
template <class T>
__device__ inline KeyRows<T> key_rows_of_k(const AttentionArgs& a, const Head& at, const Sequence& s) {
  return key_rows<T>(a, a.k, a.k_stride_b, a.k_stride_t, a.k_stride_h, at, s);
}
template <class T>
__device__ inline KeyRows<T> key_rows_of_v(const AttentionArgs& a, const Head& at, const Sequence& s) {
  return key_rows<T>(a, a.v, a.v_stride_b, a.v_stride_t, a.v_stride_h, at, s);
}

/// The same in the backward, where there is no table.
template <class T>
__device__ inline QueryRows<const T> plain_rows_of_k(const AttentionArgs& a, const Head& at, const Sequence& s) {
  return {static_cast<const T*>(a.k) + s.key_offset(a.k_stride_b, a.k_stride_t, at.b) + at.kv_h * a.k_stride_h,
          a.k_stride_t, s.keys};
}
template <class T>
__device__ inline QueryRows<const T> plain_rows_of_v(const AttentionArgs& a, const Head& at, const Sequence& s) {
  return {static_cast<const T*>(a.v) + s.key_offset(a.v_stride_b, a.v_stride_t, at.b) + at.kv_h * a.v_stride_h,
          a.v_stride_t, s.keys};
}

/// What KeyTileLoop loads with: the block starts copying the keys and values from key j on to a stage of their tiles.
template <int kThreads, int kColumns, class T, int kDim, class RowOfK, class RowOfV>
__device__ inline auto key_value_loader(Tile<T, kDim> tile_k, Tile<T, kDim> tile_v, int head_dim, bool aligned,
                                        RowOfK row_of_k, RowOfV row_of_v) {
  return [=](int j, int stage) {
    load_tile<kThreads, kColumns>(tile_k.from(stage * kColumns), head_dim, aligned,
                                  [=](int row) { return row_of_k(j + row); });
    load_tile<kThreads, kColumns>(tile_v.from(stage * kColumns), head_dim, aligned,
                                  [=](int row) { return row_of_v(j + row); });
  };
}

/// The tiles of kColumns keys that a tile of queries needs, in order, one of them ahead in shared memory where there
/// are two stages.
///
///   KeyTileLoop<kColumns, 2> tiles(sequence, content, queries, keys);
///   tiles.begin(load);        // load(j, stage) starts to bring the keys from j on
///   tiles.run(load, body);    // body(j, stage, mask)
template <int kColumns, int kStages>
class KeyTileLoop {
 public:
  /// Of `keys`, those that any of `queries` (at least one) sees.
  __device__ KeyTileLoop(const Sequence& sequence, const Content& content, Range queries, Range keys)
      : sequence_(sequence), content_(content), queries_(sequence, content, queries) {
    queries_.any = {0, keys.end};  // no tile ends in front of the keys: their begin need not be kept
    j_ = next_from(keys.begin / kColumns * kColumns);
  }

  template <class Load>
  __device__ void begin(Load load) {
    if (kStages == 2 && j_ < queries_.any.end) load(j_, 0);
    commit_copies();
  }
  template <class Load, class Body>
  __device__ void run(Load load, Body body) {
    int stage = 0;
    while (j_ < queries_.any.end) {
      const int j = j_;
      const bool partial = partial_;
      j_ = next_from(j + kColumns);
      if (kStages == 1) {
        block_barrier();  // everybody is done with the tile before
        load(j, 0);
        commit_copies();
      }
      wait_copies<0>();
      block_barrier();
      if (kStages == 2) {
        if (j_ < queries_.any.end) load(j_, stage ^ 1);
        commit_copies();
      }
      // Found out twice where keys are hidden, so that what is known of the next tile need not be kept.
      body(
          j, stage,
          TileMask{true, partial, partial ? content_.shown({j, smaller(j + kColumns, sequence_.keys)}) : ~uint64_t{0}});
      if (kStages == 2) stage ^= 1;
    }
  }

 private:
  __device__ int next_from(int j) {
    for (; j < queries_.any.end; j += kColumns) {
      const TileMask mask = tile_mask(sequence_, content_, queries_, {j, j + kColumns});
      partial_ = mask.partial;
      if (mask.needed) break;
    }
    return j;
  }

  const Sequence& sequence_;
  const Content& content_;
  QueryTile queries_;
  int j_;                 // the next tile
  bool partial_ = false;  // something is hidden in it
};

/// A row of a tile of queries.
struct QueryAt {
  int i;      // may lie behind the last query
  int64_t h;  // the head
};

/// What a thread needs of its rows to hide keys; row_at(r, half) is row accumulator_row(2 * half) of row tile r.
template <int kRowTiles>
struct QueryInfo {
  Range seen[kRowTiles][2];
  int32_t document[kRowTiles][2];

  template <class RowAt>
  __device__ QueryInfo(const Sequence& sequence, const Content& content, RowAt row_at) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int i = row_at(r, half).i;
        seen[r][half] = sequence.keys_of(i);
        document[r][half] = i < sequence.queries ? content.query_document(i) : 0;
      }
    }
  }
};

/// Scores in units of log 2 from the products of queries and the keys j0 ..., where Scoring is not plain.
template <class T, int kRowTiles, int kBlocks, class RowAt>
__device__ inline void apply_scoring(float (&scores)[kRowTiles][kBlocks][4], const Scoring<T>& scoring,
                                     const Sequence& sequence, RowAt row_at, int j0) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const QueryAt at = row_at(r, e / 2);
        const int j = j0 + accumulator_column(n, e);
        if (at.i < sequence.queries && j < sequence.keys) {
          scores[r][n][e] = scoring(scores[r][n][e], at.h, at.i, j).value;
        }
      }
    }
  }
}

/// What dropout keeps of a warp's 16 rows and 8 kBlocks columns: element e of block n. The lanes that share blocks of
/// the generator compute each once and exchange them.
class KeptWeights {
 public:
  __device__ bool operator()(int n, int e) const { return (word_[e / 2] >> (4 * n + shift_ + e % 2) & 1) != 0; }

  /// Rows are queries, columns the keys j0 ... (a multiple of 8).
  template <int kBlocks, class RowAt>
  __device__ static KeptWeights of(const WeightDropout& dropout, const Sequence& sequence, RowAt row_at, int j0) {
    static_assert(kBlocks <= 8);
    const int t = lane_index() % 4;
    KeptWeights kept;
    kept.shift_ = t % 2 * 2;
    if (dropout.in_blocks()) {  // of the pair of lanes with the same block, one takes the upper rows, one the lower
      const QueryAt at = row_at(0, t % 2);
      const int64_t row = sequence.row(at.h, at.i);
      uint32_t mine = 0;
#pragma unroll 1
      for (int n = 0; n < kBlocks; ++n) mine |= dropout.keeps_four(row, j0 + 8 * n + t / 2 * 4) << 4 * n;
      const uint32_t other = shuffle_xor(mine, 1);
      kept.word_[0] = t % 2 == 0 ? mine : other;
      kept.word_[1] = t % 2 == 0 ? other : mine;
      return kept;
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const QueryAt at = row_at(0, half);
      const int64_t row = sequence.row(at.h, at.i);
      kept.word_[half] = 0;
#pragma unroll 1
      for (int c = 0; c < 2 * kBlocks; ++c) {
        const int n = c / 2, e = c % 2;
        const uint32_t bit = dropout.keeps(row, j0 + 8 * n + 2 * t + e) ? 1 : 0;
        kept.word_[half] |= bit << (4 * n + kept.shift_ + e);
      }
    }
    return kept;
  }

 private:
  uint32_t word_[2];  // of the upper and the lower row: 4 bits for the 4 columns of a block that this thread's lie in
  int shift_;
};

/// The same where rows are the keys j0 ... and columns the queries i0 ... of head h.
class KeptWeightsOfKeys {
 public:
  __device__ bool operator()(int n, int e) const { return (word_[e] >> (4 * n + shift_) & 1) != 0; }

  template <int kBlocks>
  __device__ static KeptWeightsOfKeys of(const WeightDropout& dropout, const Sequence& sequence, int64_t h, int i0,
                                         int j0) {
    static_assert(kBlocks <= 8);
    const int lane = lane_index(), turn = lane / 4 % 4;
    KeptWeightsOfKeys kept;
    kept.shift_ = turn;
    const auto query = [&](int n, int e) { return i0 + accumulator_column(n, e); };
    if (dropout.in_blocks()) {  // of the four lanes with the same blocks, each takes one of the elements e
      uint32_t mine = 0;
#pragma unroll 1
      for (int n = 0; n < kBlocks; ++n) {
        mine |= dropout.keeps_four(sequence.row(h, query(n, turn)), j0 + lane / 16 * 4 + turn / 2 * 8) << 4 * n;
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) kept.word_[e] = shuffle_from(mine, lane % 4 + lane / 16 * 16 + 4 * e);
      return kept;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      kept.word_[e] = 0;
#pragma unroll 1
      for (int n = 0; n < kBlocks; ++n) {
        const uint32_t bit = dropout.keeps(sequence.row(h, query(n, e)), j0 + accumulator_row(e)) ? 1 : 0;
        kept.word_[e] |= bit << (4 * n + turn);
      }
    }
    return kept;
  }

 private:
  uint32_t word_[4];  // of each element e: 4 bits for the 4 rows of a block that this thread's lie in
  int shift_;
};

/// Zero where dropout takes a weight away; the others are yet to be multiplied by `kept`.
template <int kBlocks, class RowAt>
__device__ inline void drop_weights(float (&weights)[1][kBlocks][4], const WeightDropout& dropout,
                                    const Sequence& sequence, RowAt row_at, int j0) {
  const KeptWeights kept = KeptWeights::of<kBlocks>(dropout, sequence, row_at, j0);
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (!kept(n, e)) weights[0][n][e] = 0.0f;
    }
  }
}

/// -infinity where a query (row) does not see a key (column), in the blocks kFirst ... kEnd - 1 of the scores. Column 0
/// of block kFirst is key j0 + column0; `shown` has the bits of the keys from j0 on.
template <int kFirst, int kEnd, int kRowTiles, int kBlocks>
__device__ inline void hide_scores_between(float (&scores)[kRowTiles][kBlocks][4], const QueryInfo<kRowTiles>& rows,
                                           const Content& content, uint64_t shown, int keys, int j0, int column0) {
#pragma unroll
  for (int n = kFirst; n < kEnd; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = column0 + accumulator_column(n - kFirst, e), j = j0 + column;
      const bool present = j < keys && (shown >> column & 1) != 0;
      const int32_t document = present ? content.key_document(j) : 0;
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const bool visible = present && rows.seen[r][half].contains(j) && rows.document[r][half] == document;
          if (!visible) scores[r][n][2 * half + e] = -INFINITY;
        }
      }
    }
  }
}

/// The same for all blocks.
template <int kRowTiles, int kBlocks>
__device__ inline void hide_scores(float (&scores)[kRowTiles][kBlocks][4], const QueryInfo<kRowTiles>& rows,
                                   const Content& content, uint64_t shown, int keys, int j0, int column0) {
  hide_scores_between<0, kBlocks>(scores, rows, content, shown, keys, j0, column0);
}

/// Running maximum and sum of the rows of a warp.
template <int kRowTiles>
struct OnlineSoftmax {
  float reference[kRowTiles][2];  // the greatest score so far, in units of log 2; -infinity: none
  float sum[kRowTiles][2];        // of 2^(score - reference) over this thread's columns

  __device__ OnlineSoftmax() {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        reference[r][half] = -INFINITY;
        sum[r][half] = 0.0f;
      }
    }
  }

  /// Turns scores, times factor in units of log 2, into weights and shrinks what was summed up in `out` before.
  template <int kBlocks, int kOutBlocks>
  __device__ void add(float (&scores)[kRowTiles][kBlocks][4], float factor, float (&out)[kRowTiles][kOutBlocks][4]) {
    float shrink[kRowTiles][2];
    weigh(scores, factor, shrink);
    rescale(out, shrink);
  }

  /// The first half of add: what was summed up before is yet to be multiplied by `shrink`.
  template <int kBlocks>
  __device__ void weigh(float (&scores)[kRowTiles][kBlocks][4], float factor, float (&shrink)[kRowTiles][2]) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float greatest = scores[r][0][2 * half];
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) {
          greatest = fmaxf(greatest, fmaxf(scores[r][n][2 * half], scores[r][n][2 * half + 1]));
        }
        greatest = fmaxf(greatest, shuffle_xor(greatest, 1));
        greatest = fmaxf(greatest, shuffle_xor(greatest, 2));
        const float before = reference[r][half], now = fmaxf(before, greatest * factor);
        const float base = now == -INFINITY ? 0.0f : now;
        shrink[r][half] = exp2_fast(before - base);
        float added = 0.0f;
#pragma unroll
        for (int n = 0; n < kBlocks; ++n) {
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            scores[r][n][e] = exp2_fast(fmaf(scores[r][n][e], factor, -base));
            added += scores[r][n][e];
          }
        }
        reference[r][half] = now;
        sum[r][half] = sum[r][half] * shrink[r][half] + added;
      }
    }
  }
  template <int kOutBlocks>
  __device__ static void rescale(float (&out)[kRowTiles][kOutBlocks][4], const float (&shrink)[kRowTiles][2]) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int n = 0; n < kOutBlocks; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) out[r][n][e] *= shrink[r][e / 2];
      }
    }
  }

  /// The sum over the whole row.
  __device__ float total(int r, int half) const {
    float all = sum[r][half] + shuffle_xor(sum[r][half], 1);
    return all + shuffle_xor(all, 2);
  }
};

/// What the backward needs of a row of queries.
struct RowGradient {
  float lse;    // in units of log 2; infinity, so that all weights are 0, where the query saw nothing
  float delta;  // sum of grad_out * out

  __device__ static RowGradient none() { return {INFINITY, 0.0f}; }
  __device__ static RowGradient from(float lse, float delta) {
    return {lse == -INFINITY ? INFINITY : lse * kLog2E, delta};
  }
};

/// What a visible pair of query and key contributes to the gradients.
struct PairGradient {
  float kept;     // of the value: the weight, without what dropout takes away, yet to be multiplied by `kept`
  float score;    // of the score
  float product;  // of the product of query and key, yet to be multiplied by the scale
};

/// grad_value is the product of grad_out and the value; a product of -infinity is a hidden pair. Indices outside the
/// sequence are only allowed for hidden pairs and for queries without a gradient.
template <bool kExtras, class T>
__device__ inline PairGradient pair_gradient(const Scoring<T>& scoring, const Sequence& sequence, float product,
                                             float grad_value, const RowGradient& row, bool keeps, float kept,
                                             QueryAt at, int j) {
  if constexpr (!kExtras) {
    const float weight = exp2_fast(fmaf(product, scoring.scale * kLog2E, -row.lse));
    const float gradient = weight * (grad_value - row.delta);
    return {weight, gradient, gradient};
  }
  const Score s = scoring(product, at.h, smaller(at.i, sequence.queries - 1), smaller(j, sequence.keys - 1));
  const float weight = product == -INFINITY ? 0.0f : exp2_fast(s.value - row.lse);
  const float gradient = weight * ((keeps ? grad_value * kept : 0.0f) - row.delta);
  return {keeps ? weight : 0.0f, gradient, gradient * s.slope};
}

}  // namespace ondol::ONDOL_CUDA_SPACE
