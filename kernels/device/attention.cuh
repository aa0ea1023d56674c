// What the kernels of attention share: which keys a query sees, which tiles a block can skip, and the score of a pair.
// Nothing here knows about shared memory or tensor cores.
#pragma once

#include "backend/kernel_args.h"
#include "device/block.cuh"
#include "device/convert.cuh"
#include "device/random.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.69314718055994531f;

/// A half-open range of indices.
struct Range {
  int begin, end;
  __device__ bool contains(int i) const { return i >= begin && i < end; }
  __device__ bool empty() const { return begin >= end; }
};

__device__ inline int smaller(int a, int b) { return a < b ? a : b; }
__device__ inline int larger(int a, int b) { return a > b ? a : b; }
__device__ inline int within(int value, int64_t low, int64_t high) {
  return larger(static_cast<int>(low), smaller(value, static_cast<int>(high)));
}

/// One sequence, as positions alone let its queries see its keys.
struct Sequence {
  int queries, keys;
  int64_t first_row;           // of head 0 in lse
  int64_t row_stride;          // between heads there
  int query_begin, key_begin;  // where the rows of an unpadded batch begin
  bool unpadded;
  int start;                   // key position of query 0
  int window;                  // 0: none
  const int32_t* prefix_ends;  // of query 0; null: none
  bool causal;

  __device__ Sequence(const AttentionArgs& a, int64_t b)
      : queries(static_cast<int>(a.q_len)),
        keys(static_cast<int>(a.kv_len)),
        first_row(b * a.num_heads * a.q_len),
        row_stride(a.q_len),
        query_begin(0),
        key_begin(0),
        unpadded(a.q_offsets != nullptr),
        prefix_ends(a.prefix_ends == nullptr ? nullptr : a.prefix_ends + b * a.q_len),
        causal(a.causal) {
    if (unpadded) {  // offsets that are wrong lead nowhere outside the tensors
      query_begin = within(a.q_offsets[b], 0, a.total_queries);
      key_begin = within(a.kv_offsets[b], 0, a.total_keys);
      queries = smaller(queries, within(a.q_offsets[b + 1], query_begin, a.total_queries) - query_begin);
      keys = within(a.kv_offsets[b + 1], key_begin, a.total_keys) - key_begin;
      first_row = query_begin;
      row_stride = a.total_queries;
    }
    if (a.kv_lengths != nullptr) keys = smaller(keys, a.kv_lengths[b]);
    start = a.q_start != nullptr ? a.q_start[b] : keys - queries;
    window = static_cast<int>(a.window < (1 << 30) ? a.window : 1 << 30);
  }

  __device__ int64_t query_offset(int64_t stride_b, int64_t stride_t, int64_t b) const {
    return unpadded ? query_begin * stride_t : b * stride_b;
  }
  __device__ int64_t key_offset(int64_t stride_b, int64_t stride_t, int64_t b) const {
    return unpadded ? key_begin * stride_t : b * stride_b;
  }
  /// Row of query i of head h in lse.
  __device__ int64_t row(int64_t h, int i) const { return first_row + h * row_stride + i; }

  /// The keys that query i sees; both ends grow with i.
  __device__ Range keys_of(int i) const {
    const int position = start + i;
    Range range{0, keys};
    if (window > 0) range.begin = larger(0, position - window + 1);
    if (causal) {
      range.end = smaller(keys, position + 1);
      if (prefix_ends != nullptr && i < queries) range.end = within_prefix(i, range.end);
    } else if (window > 0) {
      range.end = smaller(keys, position + window);
    }
    return range;
  }
  /// The end of the keys that query i sees, where causality alone says `end`.
  __device__ int within_prefix(int i, int end) const {
    const int last = window > 0 ? smaller(keys, start + i + window) : keys;
    return larger(end, smaller(prefix_ends[i], last));
  }
  /// The keys that any of the queries sees, and those that each of them sees.
  __device__ Range keys_of_any(Range q) const { return {keys_of(q.begin).begin, keys_of(q.end - 1).end}; }
  __device__ Range keys_of_each(Range q) const { return {keys_of(q.end - 1).begin, keys_of(q.begin).end}; }

  /// The first query that sees key j, or `end` where none before it does.
  __device__ int first_query_of(int j, int end) const {
    int first = 0;
    while (first < end) {
      const int middle = (first + end) / 2;
      if (keys_of(middle).end > j) {
        end = middle;
      } else {
        first = middle + 1;
      }
    }
    return first;
  }
  /// The queries that see key j; both ends grow with j.
  __device__ Range queries_of(int j) const {
    Range range{0, j < keys ? queries : 0};
    if (causal) {
      range.begin = larger(0, j - start);
      if (prefix_ends != nullptr) range.begin = first_query_of(j, smaller(range.begin, queries));
    } else if (window > 0) {
      range.begin = larger(0, j - window + 1 - start);
    }
    if (window > 0) range.end = smaller(range.end, j + window - start);
    return range;
  }
};

/// The least and the greatest document among neighbours.
struct DocumentSpan {
  int32_t low = 0, high = 0;
  __device__ bool meets(DocumentSpan other) const { return low <= other.high && other.low <= high; }
  __device__ bool uniform_with(DocumentSpan other) const {
    return low == high && other.low == low && other.high == low;
  }
};

/// Of the documents in `range`, which holds at least one; for the whole warp.
__device__ inline DocumentSpan document_span(const int32_t* documents, Range range) {
  DocumentSpan span{INT32_MAX, INT32_MIN};
#pragma unroll 1
  for (int i = range.begin + lane_index(); i < range.end; i += 32) {
    span.low = smaller(span.low, documents[i]);
    span.high = larger(span.high, documents[i]);
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    span.low = smaller(span.low, shuffle_xor(span.low, offset));
    span.high = larger(span.high, shuffle_xor(span.high, offset));
  }
  return span;
}

/// The masks by content of one sequence: documents and hidden keys.
struct Content {
  const int32_t *query_documents, *key_documents;  // null: all belong together
  const uint8_t* key_mask;                         // null: all keys are shown

  __device__ Content(const AttentionArgs& a, int64_t b)
      : query_documents(a.q_documents == nullptr ? nullptr : a.q_documents + b * a.q_len),
        key_documents(a.kv_documents == nullptr ? query_documents : a.kv_documents + b * a.kv_len),
        key_mask(a.key_mask == nullptr ? nullptr : a.key_mask + b * a.kv_len) {}

  __device__ int32_t query_document(int i) const { return query_documents == nullptr ? 0 : query_documents[i]; }
  __device__ int32_t key_document(int j) const { return query_documents == nullptr ? 0 : key_documents[j]; }
  __device__ bool shows(int j) const { return key_mask == nullptr || key_mask[j] != 0; }

  __device__ DocumentSpan query_span(Range q) const {
    return query_documents == nullptr ? DocumentSpan{} : document_span(query_documents, q);
  }
  __device__ DocumentSpan key_span(Range k) const {
    return query_documents == nullptr ? DocumentSpan{} : document_span(key_documents, k);
  }
  /// One bit for each of up to 64 keys; for the whole warp.
  __device__ uint64_t shown(Range k) const {
    if (key_mask == nullptr) return ~uint64_t{0};
    const int first = k.begin + lane_index(), second = first + 32;
    const uint64_t low = ballot(first < k.end && key_mask[first] != 0);
    const uint64_t high = k.end - k.begin > 32 ? ballot(second < k.end && key_mask[second] != 0) : 0;
    return low | high << 32;
  }
};

/// What a tile of queries (at least one) sees, found out once; for the whole warp.
struct QueryTile {
  Range any, each;  // keys that one of the queries sees by position, and those that all of them see
  DocumentSpan documents;

  __device__ QueryTile(const Sequence& sequence, const Content& content, Range queries)
      : any(sequence.keys_of_any(queries)),
        each(sequence.keys_of_each(queries)),
        documents(content.query_span(queries)) {}
};

/// What a tile of queries has to do with a tile of keys.
struct TileMask {
  bool needed;   // some query may see some key
  bool partial;  // some query may not see some key
  uint64_t shown;
};

/// For the whole warp; keys outside the sequence do not count.
__device__ inline TileMask tile_mask(const Sequence& sequence, const Content& content, const QueryTile& queries,
                                     Range tile) {
  const Range keys{larger(tile.begin, queries.any.begin), smaller(tile.end, queries.any.end)};
  if (keys.empty()) return {false, true, 0};
  TileMask mask{true, tile.begin < queries.each.begin || tile.end > queries.each.end, ~uint64_t{0}};
  if (content.query_documents != nullptr) {
    const DocumentSpan of_keys = content.key_span(keys);
    mask.needed = queries.documents.meets(of_keys);
    mask.partial = mask.partial || !queries.documents.uniform_with(of_keys);
  }
  if (content.key_mask != nullptr && mask.needed) {
    mask.shown = content.shown({tile.begin, smaller(tile.end, sequence.keys)});
    mask.needed = mask.shown != 0;
    mask.partial = true;
  }
  return mask;
}

struct Score {
  float value;  // in units of log 2
  float slope;  // of the soft cap
};

/// Scores of one sequence from products of queries and keys.
template <class T>
struct Scoring {
  float scale, softcap, inverse_softcap;
  const T* bias;  // null: none
  int64_t bias_stride_h, bias_stride_q, bias_stride_k;

  __device__ Scoring(const AttentionArgs& a, int64_t b)
      : scale(a.scale),
        softcap(a.softcap),
        inverse_softcap(a.softcap > 0.0f ? 1.0f / a.softcap : 0.0f),
        bias(a.bias == nullptr ? nullptr : static_cast<const T*>(a.bias) + b * a.bias_stride_b),
        bias_stride_h(a.bias_stride_h),
        bias_stride_q(a.bias_stride_q),
        bias_stride_k(a.bias_stride_k) {
    // A shift that is wrong leads nowhere outside the tensor.
    if (bias != nullptr && a.bias_shift != nullptr) bias -= within(a.bias_shift[b], 0, a.kv_len) * bias_stride_k;
  }

  /// Scores are products times factor(), in units of log 2; otherwise ask for each.
  __device__ bool plain() const { return softcap <= 0.0f && bias == nullptr && scale > 0.0f; }
  __device__ float factor() const { return plain() ? scale * kLog2E : 1.0f; }
  __device__ Score operator()(float product, int64_t h, int i, int j) const {
    Score s{product * scale, 1.0f};
    if (softcap > 0.0f) {
      const float bent = tanhf(s.value * inverse_softcap);
      s = {softcap * bent, 1.0f - bent * bent};
    }
    if (bias != nullptr) s.value += to_float(bias[h * bias_stride_h + i * bias_stride_q + j * bias_stride_k]);
    s.value *= kLog2E;
    return s;
  }
};

/// Dropout of the weights of sequence b; that of a query's row (in lse) and key j is number first_number + row * kv_len
/// + j of the generator.
struct WeightDropout {
  PhiloxKey key;
  float p, kept;  // kept: what keeps the expectation
  int64_t kv_len;
  int64_t first_row;  // of the generator's, that row 0 is

  __device__ WeightDropout(const AttentionArgs& a, int64_t b)
      : key{a.rng.seed, a.rng.stream, 0},
        p(a.dropout_p),
        kept(1.0f / (1.0f - a.dropout_p)),
        kv_len(a.kv_len),
        first_row(a.dropout_first_row + b * a.dropout_stride_b) {
    if (p > 0.0f && a.rng.step != nullptr) key.step = static_cast<uint32_t>(*a.rng.step);
  }
  __device__ bool on() const { return p > 0.0f; }
  __device__ bool keeps(int64_t row, int j) const {
    return uniform_of(key, static_cast<uint64_t>((first_row + row) * kv_len + j)) >= p;
  }
  /// Four bits for the keys j ... j + 3 of a row; one block of the generator, which must begin there.
  __device__ unsigned keeps_four(int64_t row, int j) const {
    const PhiloxBlock block = philox_block(key, static_cast<uint64_t>((first_row + row) * kv_len + j) >> 2);
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) bits |= (word_to_uniform(block.word[i]) >= p ? 1u : 0u) << i;
    return bits;
  }
  /// True when blocks of the generator begin at keys whose number is a multiple of 4.
  __device__ bool in_blocks() const { return kv_len % 4 == 0; }
};

}  // namespace ondol::ONDOL_CUDA_SPACE
