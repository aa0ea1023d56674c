// What the forward and the backward of attention share: a block of queries against a tile of keys.
//
// Scores are kept transposed, (keys, queries), with the queries along the vector lanes. Both operands of every product
// then lie as the micro-kernel wants them: rows of k are broadcast, the block of queries is packed once as (head_dim,
// lanes), the softmax runs down the lanes without a horizontal reduction, and v needs no transposition either.
//
// The tile grid is anchored at key 0 and a hidden key is an exact zero, so what a query gets does not depend on the
// queries computed with it nor on tiles that were skipped.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/gemm_micro.h"
#include "backend/cpu/kernels/tasks.h"
#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int64_t kQueryTile = kTileCols * (64 / kTileCols);
inline constexpr int64_t kKeyTile = kTileRows * (112 / kTileRows);

/// Lane number (query - query_begin) * heads + (head - head_begin). More than one head only when they share keys.
struct QueryBlock {
  int64_t batch, head_begin, heads, query_begin, queries;

  int64_t lanes() const { return queries * heads; }
  int64_t padded_lanes() const { return round_up(lanes(), kLanes); }
  int64_t query_of(int64_t lane) const { return query_begin + lane / heads; }
  int64_t head_of(int64_t lane) const { return head_begin + lane % heads; }
};

struct KeyRange {
  int64_t begin, end;
};

/// Queries of a sequence, and rows of its keys (valid or not).
inline int64_t query_count(const AttentionArgs& args, int64_t batch) {
  return args.q_offsets == nullptr ? args.q_len : args.q_offsets[batch + 1] - args.q_offsets[batch];
}
inline int64_t key_count(const AttentionArgs& args, int64_t batch) {
  return args.kv_offsets == nullptr ? args.kv_len : args.kv_offsets[batch + 1] - args.kv_offsets[batch];
}

/// Where the queries or keys of a sequence begin, in tensors with these strides.
inline int64_t query_offset(const AttentionArgs& args, int64_t batch, int64_t stride_b, int64_t stride_t) {
  return args.q_offsets == nullptr ? batch * stride_b : args.q_offsets[batch] * stride_t;
}
inline int64_t key_offset(const AttentionArgs& args, int64_t batch, int64_t stride_b, int64_t stride_t) {
  return args.kv_offsets == nullptr ? batch * stride_b : args.kv_offsets[batch] * stride_t;
}

/// Row of a query in lse and in the workspace of the backward.
inline int64_t row_of(const AttentionArgs& args, int64_t batch, int64_t head, int64_t query) {
  if (args.q_offsets != nullptr) return head * args.total_queries + args.q_offsets[batch] + query;
  return (batch * args.num_heads + head) * args.q_len + query;
}

/// exp for arguments up to 0, and 0 below -87: hidden scores are -infinity, and a result that underflows costs the
/// processor a hundred times what a normal one does.
inline Floats exp_weight(Floats x) {
  constexpr float kSmallest = -87.0f;
  return select(x < splat(kSmallest), splat(0.0f), exp(max(splat(kSmallest), x)));
}

/// The keys that query `query` of sequence `batch` may see by position: causality, window and length.
KeyRange visible_keys(const AttentionArgs& args, int64_t batch, int64_t query);

/// The keys any query of the block may see by position, the begin rounded down to the tile grid.
KeyRange visible_keys(const AttentionArgs& args, const QueryBlock& block);

/// False when the documents hide the whole tile from the whole block.
bool documents_meet(const AttentionArgs& args, const QueryBlock& block, KeyRange keys);

/// out (rows, padded lanes) = a (rows, depth) b (depth, padded lanes), added to out when accumulate. a_packed: element
/// (i, l) of a lies at a[l * a_stride + i].
void multiply_lanes(int64_t rows, int64_t depth, const float* a, int64_t a_stride, bool a_packed, const float* b,
                    int64_t lanes, float* out, bool accumulate);

/// scores (keys, padded lanes), on entry the products of scaled queries and keys: soft cap, bias, -infinity where
/// hidden. workspace: kKeyTile * kQueryTile floats. cap_slope, needed by the backward when there is a soft cap,
/// receives the derivative of the cap.
template <class T>
void finish_scores(const AttentionArgs& args, const QueryBlock& block, KeyRange keys, float* scores, float* workspace,
                   float* cap_slope);

/// factors (keys, padded lanes): 0 where dropout drops, 1 / (1 - p) elsewhere. workspace: kKeyTile * kQueryTile floats.
void dropout_factors(const AttentionArgs& args, const QueryBlock& block, KeyRange keys, float* factors,
                     float* workspace);

/// out (head_dim, padded lanes) = factor * rows of `in` (q or grad_out); workspace: kQueryTile * head_dim floats.
template <class T>
void pack_queries(const AttentionArgs& args, const QueryBlock& block, const T* in, int64_t stride_b, int64_t stride_t,
                  int64_t stride_h, float factor, float* out, float* workspace);

/// The inverse: rows of out from (head_dim, padded lanes), rounded to T.
template <class T>
void unpack_queries(const AttentionArgs& args, const QueryBlock& block, const float* in, T* out, int64_t stride_b,
                    int64_t stride_t, int64_t stride_h, float* workspace);

/// Rows of k or v as f32: where they lie, or widened (and spread over the cache sets) in workspace (kKeyTile *
/// head_dim).
struct FloatRows {
  const float* rows;
  int64_t stride;
};
FloatRows float_rows(const float* in, int64_t stride, int64_t count, int64_t head_dim, bool in_place, float* workspace);
FloatRows float_rows(const bfloat16* in, int64_t stride, int64_t count, int64_t head_dim, bool in_place,
                     float* workspace);

}  // namespace ondol::cpu::ONDOL_ISA
