#include "backend/cpu/kernels/attention_tile.h"

#include <cstring>

#include <ondol/base/philox.h>

#include "backend/cpu/kernels/pack.h"

namespace ondol::cpu::ONDOL_ISA {

namespace {

const float kHidden = -__builtin_inff();

int64_t kv_length(const AttentionArgs& args, int64_t batch) {
  return args.kv_lengths == nullptr ? key_count(args, batch) : args.kv_lengths[batch];
}

int64_t query_position(const AttentionArgs& args, int64_t batch, int64_t query) {
  return query + (args.q_start == nullptr ? kv_length(args, batch) - query_count(args, batch) : args.q_start[batch]);
}

const int32_t* query_documents(const AttentionArgs& args, int64_t batch) {
  return args.q_documents + batch * args.q_len;
}
const int32_t* key_documents(const AttentionArgs& args, int64_t batch) {
  return args.kv_documents == nullptr ? query_documents(args, batch) : args.kv_documents + batch * args.kv_len;
}

struct DocumentRange {
  int32_t low, high;
};
DocumentRange document_range(const int32_t* documents, int64_t count) {
  DocumentRange range{documents[0], documents[0]};
  for (int64_t i = 1; i < count; ++i) {
    range.low = documents[i] < range.low ? documents[i] : range.low;
    range.high = documents[i] > range.high ? documents[i] : range.high;
  }
  return range;
}

void hide_lanes(float* row, int64_t begin, int64_t end) {
  for (int64_t lane = begin; lane < end; ++lane) row[lane] = kHidden;
}

/// By position, the queries that see one key are neighbours: everything before and behind them is hidden.
void hide_by_position(const AttentionArgs& args, const QueryBlock& block, KeyRange keys, float* scores) {
  const KeyRange first = visible_keys(args, block.batch, block.query_begin);
  const KeyRange last = visible_keys(args, block.batch, block.query_begin + block.queries - 1);
  if (keys.begin >= last.begin && keys.end <= first.end) return;
  const int64_t start = query_position(args, block.batch, block.query_begin);
  const int64_t stride = block.padded_lanes();
  int64_t from_prefix = 0;
  for (int64_t key = keys.begin; key < keys.end; ++key) {
    int64_t from = 0, to = block.queries;
    if (args.prefix_ends != nullptr) {
      while (from_prefix < block.queries &&
             visible_keys(args, block.batch, block.query_begin + from_prefix).end <= key) {
        ++from_prefix;
      }
      from = from_prefix;
    } else if (args.causal) {
      from = key - start;
    } else if (args.window > 0) {
      from = key - start - args.window + 1;
    }
    if (args.window > 0) to = smaller(to, key - start + args.window);
    from = smaller(larger(from, 0), block.queries);
    to = larger(to, from);
    float* row = scores + (key - keys.begin) * stride;
    hide_lanes(row, 0, from * block.heads);
    hide_lanes(row, to * block.heads, block.lanes());
  }
}

void hide_by_document(const AttentionArgs& args, const QueryBlock& block, KeyRange keys, float* scores) {
  const int32_t* of_query = query_documents(args, block.batch) + block.query_begin;
  const int32_t* of_key = key_documents(args, block.batch);
  const DocumentRange queries = document_range(of_query, block.queries);
  const DocumentRange tile = document_range(of_key + keys.begin, keys.end - keys.begin);
  if (queries.low == queries.high && tile.low == tile.high && queries.low == tile.low) return;
  const int64_t lanes = block.lanes();
  int32_t of_lane[kQueryTile];
  for (int64_t lane = 0; lane < lanes; ++lane) of_lane[lane] = of_query[lane / block.heads];
  for (int64_t key = keys.begin; key < keys.end; ++key) {
    float* row = scores + (key - keys.begin) * block.padded_lanes();
    const int32_t document = of_key[key];
    for (int64_t lane = 0; lane < lanes; ++lane) row[lane] = of_lane[lane] == document ? row[lane] : kHidden;
  }
}

template <class T>
void add_bias(const AttentionArgs& args, const QueryBlock& block, KeyRange keys, float* scores, float* workspace) {
  const int64_t count = keys.end - keys.begin, lanes = block.lanes(), stride = block.padded_lanes();
  const int64_t shift = args.bias_shift == nullptr ? 0 : args.bias_shift[block.batch];
  const T* bias = static_cast<const T*>(args.bias) + block.batch * args.bias_stride_b +
                  block.head_begin * args.bias_stride_h + block.query_begin * args.bias_stride_q +
                  (keys.begin - shift) * args.bias_stride_k;
  if (block.heads == 1 && args.bias_stride_k == 1) {
    pack_transposed(bias, args.bias_stride_q, count, lanes, stride, workspace, stride);
  } else {
    for (int64_t key = 0; key < count; ++key) {
      float* row = workspace + key * stride;
      for (int64_t lane = 0; lane < stride; ++lane) {
        const int64_t query = lane / block.heads, head = lane % block.heads;
        row[lane] = lane < lanes
                        ? static_cast<float>(
                              bias[query * args.bias_stride_q + head * args.bias_stride_h + key * args.bias_stride_k])
                        : 0.0f;
      }
    }
  }
  for (int64_t i = 0; i < count * stride; i += kLanes) store(scores + i, load(scores + i) + load(workspace + i));
}

void soft_cap(float cap, int64_t count, float* scores, float* slope) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Floats bent = tanh(load(scores + i) / splat(cap));
    store(scores + i, splat(cap) * bent);
    if (slope != nullptr) store(slope + i, splat(1.0f) - bent * bent);
  }
}

}  // namespace

KeyRange visible_keys(const AttentionArgs& args, int64_t batch, int64_t query) {
  const int64_t position = query_position(args, batch, query);
  KeyRange keys{0, kv_length(args, batch)};
  if (args.causal) {
    int64_t end = position + 1;
    if (args.prefix_ends != nullptr) end = larger(end, args.prefix_ends[batch * args.q_len + query]);
    if (args.window > 0) end = smaller(end, position + args.window);
    keys.end = smaller(keys.end, end);
  } else if (args.window > 0) {
    keys.end = smaller(keys.end, position + args.window);
  }
  if (args.window > 0) keys.begin = larger(0, position - args.window + 1);
  return keys;
}

KeyRange visible_keys(const AttentionArgs& args, const QueryBlock& block) {
  const int64_t begin = visible_keys(args, block.batch, block.query_begin).begin;
  return {begin / kKeyTile * kKeyTile, visible_keys(args, block.batch, block.query_begin + block.queries - 1).end};
}

bool documents_meet(const AttentionArgs& args, const QueryBlock& block, KeyRange keys) {
  if (args.q_documents == nullptr) return true;
  const DocumentRange queries = document_range(query_documents(args, block.batch) + block.query_begin, block.queries);
  const DocumentRange tile = document_range(key_documents(args, block.batch) + keys.begin, keys.end - keys.begin);
  return queries.low <= tile.high && tile.low <= queries.high;
}

void multiply_lanes(int64_t rows, int64_t depth, const float* a, int64_t a_stride, bool a_packed, const float* b,
                    int64_t lanes, float* out, bool accumulate) {
  const int64_t panel = ceil_div(rows, ceil_div(rows, kTileRows));
  for (int64_t row = 0; row < rows; row += panel) {
    const int64_t count = smaller(panel, rows - row);
    const float* a_panel = a + (a_packed ? row : row * a_stride);
    for (int64_t lane = 0; lane < lanes; lane += kTileCols) {
      const int64_t vectors = smaller(kTileVectors, (lanes - lane) / kLanes);
      micro_kernel_for(count, a_packed, vectors)(depth, depth, a_panel, a_stride, b + lane, lanes,
                                                 out + row * lanes + lane, lanes, accumulate, nullptr);
    }
  }
}

template <class T>
void finish_scores(const AttentionArgs& args, const QueryBlock& block, KeyRange keys, float* scores, float* workspace,
                   float* cap_slope) {
  const int64_t count = keys.end - keys.begin, stride = block.padded_lanes();
  if (args.softcap > 0.0f) soft_cap(args.softcap, count * stride, scores, cap_slope);
  if (args.bias != nullptr) add_bias<T>(args, block, keys, scores, workspace);
  hide_by_position(args, block, keys, scores);
  if (args.q_documents != nullptr) hide_by_document(args, block, keys, scores);
  if (args.key_mask != nullptr) {
    const uint8_t* mask = args.key_mask + block.batch * args.kv_len + keys.begin;
    for (int64_t key = 0; key < count; ++key) {
      if (mask[key] == 0) hide_lanes(scores + key * stride, 0, block.lanes());
    }
  }
}

void dropout_factors(const AttentionArgs& args, const QueryBlock& block, KeyRange keys, float* factors,
                     float* workspace) {
  const int64_t count = keys.end - keys.begin, lanes = block.lanes(), stride = block.padded_lanes();
  const int64_t step = args.rng.step == nullptr ? 0 : *args.rng.step;
  const PhiloxKey key{args.rng.seed, args.rng.stream, static_cast<uint32_t>(step)};
  const float kept = 1.0f / (1.0f - args.dropout_p);
  const int64_t first_row = args.dropout_first_row + block.batch * args.dropout_stride_b;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t row = first_row + row_of(args, block.batch, block.head_of(lane), block.query_of(lane));
    const uint64_t begin = static_cast<uint64_t>(row * args.kv_len + keys.begin);
    const uint64_t end = begin + static_cast<uint64_t>(count);
    float* out = workspace + lane * count;
    for (uint64_t element = begin; element < end;) {
      const PhiloxBlock random = philox_block(key, element >> 2);
      do {
        *out++ = word_to_uniform(random.word[element & 3]) >= args.dropout_p ? kept : 0.0f;
        ++element;
      } while (element < end && (element & 3) != 0);
    }
  }
  pack_transposed(workspace, count, count, lanes, stride, factors, stride);
}

template <class T>
void pack_queries(const AttentionArgs& args, const QueryBlock& block, const T* in, int64_t stride_b, int64_t stride_t,
                  int64_t stride_h, float factor, float* out, float* workspace) {
  const int64_t lanes = block.lanes(), stride = block.padded_lanes(), head_dim = args.head_dim;
  const T* first = in + query_offset(args, block.batch, stride_b, stride_t) + block.head_begin * stride_h +
                   block.query_begin * stride_t;
  if (block.heads == 1) {
    pack_transposed(first, stride_t, head_dim, lanes, stride, out, stride);
  } else {
    for (int64_t lane = 0; lane < lanes; ++lane) {
      pack_rows(first + lane / block.heads * stride_t + lane % block.heads * stride_h, 0, 1, head_dim, head_dim,
                workspace + lane * head_dim, 0);
    }
    pack_transposed(workspace, head_dim, head_dim, lanes, stride, out, stride);
  }
  if (factor == 1.0f) return;
  for (int64_t i = 0; i < head_dim * stride; i += kLanes) store(out + i, load(out + i) * splat(factor));
}

template <class T>
void unpack_queries(const AttentionArgs& args, const QueryBlock& block, const float* in, T* out, int64_t stride_b,
                    int64_t stride_t, int64_t stride_h, float* workspace) {
  const int64_t lanes = block.lanes(), head_dim = args.head_dim;
  pack_transposed(in, block.padded_lanes(), lanes, head_dim, head_dim, workspace, head_dim);
  T* first = out + query_offset(args, block.batch, stride_b, stride_t) + block.head_begin * stride_h +
             block.query_begin * stride_t;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    T* row = first + lane / block.heads * stride_t + lane % block.heads * stride_h;
    const float* source = workspace + lane * head_dim;
    for_each_vector(head_dim, [&](int64_t i, auto n) { store_lanes(row + i, load_lanes(source + i, n), n); });
  }
}

FloatRows float_rows(const float* in, int64_t stride, int64_t count, int64_t head_dim, bool in_place,
                     float* workspace) {
  if (in_place) return {in, stride};
  pack_rows(in, stride, count, head_dim, head_dim, workspace, head_dim);
  return {workspace, head_dim};
}

FloatRows float_rows(const bfloat16* in, int64_t stride, int64_t count, int64_t head_dim, bool, float* workspace) {
  pack_rows(in, stride, count, head_dim, head_dim, workspace, head_dim);
  return {workspace, head_dim};
}

#define ONDOL_INSTANTIATE(T)                                                                                         \
  template void finish_scores<T>(const AttentionArgs&, const QueryBlock&, KeyRange, float*, float*, float*);         \
  template void pack_queries(const AttentionArgs&, const QueryBlock&, const T*, int64_t, int64_t, int64_t, float,    \
                             float*, float*);                                                                        \
  template void unpack_queries(const AttentionArgs&, const QueryBlock&, const float*, T*, int64_t, int64_t, int64_t, \
                               float*);
ONDOL_INSTANTIATE(float)
ONDOL_INSTANTIATE(bfloat16)
#undef ONDOL_INSTANTIATE

}  // namespace ondol::cpu::ONDOL_ISA
