#include <ondol/ops/attention.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <ondol/ops/reduce.h>

#include "ops/checks.h"
#include "ops/index_checks.h"
#include "ops/rng_key.h"

namespace ondol {

SequenceOffsets SequenceOffsets::from_lengths(const std::vector<int64_t>& lengths, Device device) {
  SequenceOffsets sequences;
  std::vector<int32_t> offsets{0};
  for (size_t b = 0; b < lengths.size(); ++b) {
    const int64_t room = std::numeric_limits<int32_t>::max() - offsets.back();
    ONDOL_CHECK(lengths[b] >= 0 && lengths[b] <= room, "[attention] sequence ", b, " of an unpadded batch has length ",
                lengths[b], ": 0 to ", room, " is possible");
    offsets.push_back(offsets.back() + static_cast<int32_t>(lengths[b]));
    sequences.max_length = std::max(sequences.max_length, lengths[b]);
  }
  sequences.offsets = Tensor::from_vector(offsets, {static_cast<int64_t>(offsets.size())}).to(device);
  return sequences;
}

}  // namespace ondol

namespace ondol::ops {

namespace {

void check_heads(const char* op, const char* name, const Tensor& t, const Tensor& q) {
  check_like(op, name, t, "q", q);
  ONDOL_CHECK(t.ndim() == 4, "[", op, "] ", name, " has shape ", t.shape(), ": (B, T, H, D) is needed");
  ONDOL_CHECK(t.size(3) <= 1 || t.stride(3) == 1, "[", op, "] the last dimension of ", name, " ", t.shape(),
              " must be contiguous");
}

const int32_t* row_ints(const char* op, const char* name, const Tensor& t, const Tensor& q, const Shape& shape) {
  if (!t.defined()) return nullptr;
  check_dtype(op, name, t, DType::i32, q);
  check_shape(op, name, t, shape);
  check_contiguous(op, name, t);
  return t.data<int32_t>();
}

/// Offsets of an unpadded batch of `rows` rows; their values only where they lie on the host.
const int32_t* offsets_of(const char* op, const char* name, const SequenceOffsets& sequences, int64_t batch,
                          const Tensor& q, int64_t rows) {
  const int32_t* offsets = row_ints(op, name, sequences.offsets, q, {batch + 1});
  ONDOL_CHECK(sequences.max_length >= 0 && sequences.max_length <= rows, "[", op, "] ", name, ": max_length ",
              sequences.max_length, " is outside [0, ", rows, "]");
  if (q.device().type != DeviceType::cpu) return offsets;
  ONDOL_CHECK(offsets[0] == 0 && offsets[batch] == rows, "[", op, "] ", name, " lead from ", offsets[0], " to ",
              offsets[batch], ", not from 0 to the ", rows, " rows");
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t length = int64_t{offsets[b + 1]} - offsets[b];
    ONDOL_CHECK(length >= 0 && length <= sequences.max_length, "[", op, "] ", name, ": sequence ", b, " has ", length,
                " rows, max_length is ", sequences.max_length);
  }
  return offsets;
}

struct Lengths {
  int64_t batch, q_len, kv_len;
};

/// Sequences and the greatest lengths; refuses what an unpadded batch and keys in blocks do not go with.
Lengths lengths_of(const char* op, const Tensor& q, const Tensor& k, const AttentionOptions& o) {
  if (o.block_table.defined()) {
    ONDOL_CHECK(
        !o.q_sequences.defined() && !o.kv_sequences.defined() && !o.key_mask.defined() && !o.documents.defined(), "[",
        op, "] block_table does not go with unpadded batches, key_mask or documents");
    ONDOL_CHECK(o.kv_lengths.defined(), "[", op, "] block_table needs kv_lengths");
    ONDOL_CHECK(o.block_table.ndim() == 2 && o.block_table.size(0) == q.size(0), "[", op, "] block_table has shape ",
                o.block_table.shape(), ": (", q.size(0), ", blocks) is needed");
    return {q.size(0), q.size(1), o.block_table.size(1) * k.size(1)};
  }
  if (!o.q_sequences.defined() && !o.kv_sequences.defined()) return {q.size(0), q.size(1), k.size(1)};
  ONDOL_CHECK(o.q_sequences.defined() && o.kv_sequences.defined(), "[", op,
              "] an unpadded batch needs q_sequences and kv_sequences");
  ONDOL_CHECK(!o.kv_lengths.defined() && !o.key_mask.defined() && !o.documents.defined(), "[", op,
              "] unpadded batches do not go with kv_lengths, key_mask or documents");
  ONDOL_CHECK(q.size(0) == 1, "[", op, "] q has shape ", q.shape(), ": an unpadded batch is (1, T, H, D)");
  ONDOL_CHECK(o.q_sequences.offsets.ndim() == 1 && o.q_sequences.offsets.size(0) > 0, "[", op,
              "] q_sequences has offsets of shape ", o.q_sequences.offsets.shape(), ": (B + 1) is needed");
  return {o.q_sequences.offsets.size(0) - 1, o.q_sequences.max_length, o.kv_sequences.max_length};
}

Shape lse_shape(const AttentionArgs& args) {
  if (args.q_offsets != nullptr) return {args.num_heads, args.total_queries};
  return {args.batch, args.num_heads, args.q_len};
}

/// block_table and, for all forms, kv_lengths.
void set_keys(const char* op, const Tensor& q, const Tensor& k, const AttentionOptions& options, AttentionArgs& args) {
  args.kv_lengths = row_ints(op, "kv_lengths", options.kv_lengths, q, {args.batch});
  if (args.kv_lengths != nullptr) {
    check_range_on_host(op, "kv_lengths", options.kv_lengths, args.kv_len + 1);
  }
  if (!options.block_table.defined()) return;
  args.block_table = row_ints(op, "block_table", options.block_table, q, options.block_table.shape());
  args.num_blocks = k.size(0);
  args.block_size = k.size(1);
  args.block_table_stride = options.block_table.size(1);
  for (int64_t b = 0; q.device().type == DeviceType::cpu && b < args.batch; ++b) {
    for (int64_t i = 0; i * args.block_size < args.kv_lengths[b]; ++i) {
      const int32_t block = args.block_table[b * args.block_table_stride + i];
      ONDOL_CHECK(block >= 0 && block < args.num_blocks, "[", op, "] block_table ", block, " at (", b, ", ", i, ") of ",
                  options.block_table.shape(), " is outside [0, ", args.num_blocks, ")");
    }
  }
}

/// Bias by distance: the rows of relative_bias are read as a matrix of queries and keys whose diagonals are constant.
void set_relative_bias(const char* op, const Tensor& q, const AttentionOptions& options, AttentionArgs& args) {
  const Tensor& bias = options.relative_bias;
  check_like(op, "relative_bias", bias, "q", q);
  ONDOL_CHECK(!options.bias.defined(), "[", op, "] bias and relative_bias do not go together");
  ONDOL_CHECK(args.q_offsets == nullptr, "[", op, "] relative_bias does not go with unpadded batches");
  ONDOL_CHECK(args.q_start != nullptr || args.kv_lengths == nullptr, "[", op,
              "] relative_bias with kv_lengths needs q_start");
  ONDOL_CHECK(bias.ndim() == 2 && (bias.size(0) == 1 || bias.size(0) == args.num_heads), "[", op,
              "] relative_bias has shape ", bias.shape(), ": (", args.num_heads, ", distances) is needed");
  const int64_t first = args.q_start != nullptr ? 0 : args.kv_len - args.q_len;  // positions of queries
  const int64_t last = (args.q_start != nullptr ? args.kv_len : first) + args.q_len - 1;
  const int64_t origin = options.relative_origin;
  ONDOL_CHECK(origin >= last && bias.size(1) - origin >= args.kv_len - first, "[", op, "] relative_bias ", bias.shape(),
              " with its origin at ", origin, " does not reach from -", last, " to ", args.kv_len - 1 - first);
  if (options.q_start.defined()) check_range_on_host(op, "q_start", options.q_start, args.kv_len + 1);
  args.bias_stride_b = 0;
  args.bias_stride_h = bias.size(0) == 1 ? 0 : bias.stride(0);
  args.bias_stride_k = bias.stride(1);
  args.bias_stride_q = -bias.stride(1);
  args.bias_shift = args.q_start;
  args.bias = static_cast<const char*>(bias.raw()) +
              (origin - first) * bias.stride(1) * static_cast<int64_t>(dtype_size(bias.dtype()));
}

void set_dropout(const char* op, const Tensor& q, const AttentionOptions& options, AttentionArgs& args) {
  args.dropout_p = options.dropout_p;
  args.rng = rng_args(op, options.rng, q);
  ONDOL_CHECK(options.rng.first == 0 && options.rng.row_length == 0, "[", op, "] the random key is that of a part");
  if (options.all_heads == 0) return;
  const int64_t others = options.all_heads - args.num_heads;
  ONDOL_CHECK(options.first_head >= 0 && options.first_head <= others, "[", op, "] ", args.num_heads, " heads from ",
              options.first_head, " on are not some of ", options.all_heads);
  const int64_t head_rows = args.q_offsets != nullptr ? args.total_queries : args.q_len;
  args.dropout_first_row = options.first_head * head_rows;
  args.dropout_stride_b = args.q_offsets != nullptr ? 0 : others * head_rows;
}

/// prefix_ends; on the host also that no query sees less far than the one before it.
void set_prefixes(const char* op, const Tensor& q, const AttentionOptions& options, AttentionArgs& args) {
  ONDOL_CHECK(args.causal, "[", op, "] prefix_ends need causal attention");
  ONDOL_CHECK(args.q_offsets == nullptr, "[", op, "] prefix_ends do not go with unpadded batches");
  args.prefix_ends = row_ints(op, "prefix_ends", options.prefix_ends, q, {args.batch, args.q_len});
  if (q.device().type != DeviceType::cpu) return;
  for (int64_t b = 0; b < args.batch; ++b) {
    const int64_t keys = args.kv_lengths == nullptr ? args.kv_len : args.kv_lengths[b];
    const int64_t start = args.q_start == nullptr ? keys - args.q_len : args.q_start[b];
    int64_t before = 0;
    for (int64_t i = 0; i < args.q_len; ++i) {
      const int64_t end = std::max<int64_t>(start + i + 1, args.prefix_ends[b * args.q_len + i]);
      ONDOL_CHECK(end >= before, "[", op, "] prefix_ends of sequence ", b, ": query ", i, " sees the keys before ", end,
                  ", the query in front of it those before ", before);
      before = end;
    }
  }
}

/// Everything but out and lse.
AttentionArgs attention_args(const char* op, const Tensor& q, const Tensor& k, const Tensor& v,
                             const AttentionOptions& options) {
  check_data(op, "q", q);
  check_heads(op, "q", q, q);
  check_heads(op, "k", k, q);
  check_heads(op, "v", v, q);
  const auto [batch, q_len, kv_len] = lengths_of(op, q, k, options);
  const int64_t heads = q.size(2), head_dim = q.size(3), kv_heads = k.size(2);
  ONDOL_CHECK(
      k.shape() == v.shape() && (options.block_table.defined() || k.size(0) == q.size(0)) && k.size(3) == head_dim, "[",
      op, "] q has shape ", q.shape(), ", k ", k.shape(), ", v ", v.shape());
  ONDOL_CHECK(kv_heads > 0 && heads % kv_heads == 0, "[", op, "] ", heads, " heads are no multiple of ", kv_heads,
              " key heads");
  ONDOL_CHECK(options.window >= 0, "[", op, "] window ", options.window, " is negative");
  check_probability(op, options.dropout_p);
  AttentionArgs args{};
  args.q = q.raw();
  args.k = k.raw();
  args.v = v.raw();
  args.batch = batch;
  args.q_len = q_len;
  args.kv_len = kv_len;
  args.num_heads = heads;
  args.num_kv_heads = kv_heads;
  args.head_dim = head_dim;
  args.q_stride_b = q.stride(0), args.q_stride_t = q.stride(1), args.q_stride_h = q.stride(2);
  args.k_stride_b = k.stride(0), args.k_stride_t = k.stride(1), args.k_stride_h = k.stride(2);
  args.v_stride_b = v.stride(0), args.v_stride_t = v.stride(1), args.v_stride_h = v.stride(2);
  args.out_stride_b = q.size(1) * heads * head_dim, args.out_stride_t = heads * head_dim, args.out_stride_h = head_dim;
  args.scale = options.scale != 0.0f
                   ? options.scale
                   : static_cast<float>(1.0 / std::sqrt(static_cast<double>(std::max<int64_t>(head_dim, 1))));
  args.softcap = options.softcap;
  args.causal = options.causal;
  args.window = options.window;
  args.q_start = row_ints(op, "q_start", options.q_start, q, {batch});
  if (options.q_sequences.defined()) {
    args.total_queries = q.size(1);
    args.total_keys = k.size(1);
    args.q_offsets = offsets_of(op, "q_sequences", options.q_sequences, batch, q, args.total_queries);
    args.kv_offsets = offsets_of(op, "kv_sequences", options.kv_sequences, batch, q, args.total_keys);
  }
  set_keys(op, q, k, options, args);
  if (options.key_mask.defined()) {
    check_dtype(op, "key_mask", options.key_mask, DType::u8, q);
    check_shape(op, "key_mask", options.key_mask, {batch, kv_len});
    check_contiguous(op, "key_mask", options.key_mask);
    args.key_mask = options.key_mask.data<uint8_t>();
  }
  if (options.documents.defined()) {
    ONDOL_CHECK(q_len == kv_len, "[", op, "] documents need as many queries as keys, got ", q_len, " and ", kv_len);
    args.q_documents = row_ints(op, "documents", options.documents, q, {batch, q_len});
    args.kv_documents = args.q_documents;
  }
  if (options.bias.defined()) {
    check_like(op, "bias", options.bias, "q", q);
    const Tensor bias = options.bias.expand({batch, heads, q_len, kv_len});
    args.bias = bias.raw();
    args.bias_stride_b = bias.stride(0), args.bias_stride_h = bias.stride(1);
    args.bias_stride_q = bias.stride(2), args.bias_stride_k = bias.stride(3);
  }
  if (options.relative_bias.defined()) set_relative_bias(op, q, options, args);
  if (options.prefix_ends.defined()) set_prefixes(op, q, options, args);
  if (options.dropout_p > 0.0f) set_dropout(op, q, options, args);
  return args;
}

}  // namespace

AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                          bool need_lse) {
  AttentionArgs args = attention_args("attention", q, k, v, options);
  AttentionResult result;
  result.out = Tensor::empty(q.shape(), q.dtype(), q.device());
  if (need_lse) result.lse = Tensor::empty(lse_shape(args), DType::f32, q.device());
  args.out = result.out.raw();
  args.lse = need_lse ? result.lse.data<float>() : nullptr;
  if (args.batch * args.num_heads * args.q_len > 0) run_kernel(&KernelTable::attention, q.device(), q.dtype(), args);
  return result;
}

void append_to_cache(const Tensor& key_cache, const Tensor& value_cache, const Tensor& keys, const Tensor& values,
                     const Tensor& starts, const Tensor& ends) {
  constexpr const char* op = "append_to_cache";
  check_data(op, "key_cache", key_cache);
  const auto whole_positions = [](const Tensor& t) {
    return t.stride(3) == 1 && (t.size(2) == 1 || t.stride(2) == t.size(3));
  };
  for (const auto& [name, t] :
       {std::pair{"key_cache", &key_cache}, {"value_cache", &value_cache}, {"keys", &keys}, {"values", &values}}) {
    check_like(op, name, *t, "key_cache", key_cache);
    ONDOL_CHECK(t->ndim() == 4, "[", op, "] ", name, " has shape ", t->shape(), ": (B, T, H, D) is needed");
  }
  ONDOL_CHECK(key_cache.shape() == value_cache.shape() && key_cache.stride(0) == value_cache.stride(0) &&
                  key_cache.stride(1) == value_cache.stride(1) && whole_positions(key_cache) &&
                  whole_positions(value_cache),
              "[", op, "] key_cache ", key_cache.shape(), " and value_cache ", value_cache.shape(),
              " must lie alike, each position contiguous");
  const int64_t batch = key_cache.size(0), length = keys.size(1);
  const Shape wanted{batch, length, key_cache.size(2), key_cache.size(3)};
  check_shape(op, "keys", keys, wanted);
  check_shape(op, "values", values, wanted);
  const int32_t* first = row_ints(op, "starts", starts, key_cache, {batch});
  const int32_t* last = row_ints(op, "ends", ends, key_cache, {batch});
  ONDOL_CHECK(first != nullptr && last != nullptr, "[", op, "] starts and ends are needed");
  if (keys.numel() == 0) return;
  const Tensor new_keys = whole_positions(keys) ? keys : keys.contiguous();
  const Tensor new_values = whole_positions(values) ? values : values.contiguous();
  CacheAppendArgs args{};
  args.keys = new_keys.raw(), args.values = new_values.raw();
  args.key_cache = key_cache.raw(), args.value_cache = value_cache.raw();
  args.batch = batch, args.length = length, args.capacity = key_cache.size(1);
  args.width = key_cache.size(2) * key_cache.size(3);
  args.key_stride_b = new_keys.stride(0), args.key_stride_t = new_keys.stride(1);
  args.value_stride_b = new_values.stride(0), args.value_stride_t = new_values.stride(1);
  args.cache_stride_b = key_cache.stride(0), args.cache_stride_t = key_cache.stride(1);
  args.starts = first, args.ends = last;
  run_kernel(&KernelTable::cache_append, key_cache.device(), key_cache.dtype(), args);
}

void attention_backward_into(const Tensor& grad_output, const Tensor& q, const Tensor& k, const Tensor& v,
                             const AttentionResult& forward, const AttentionOptions& options, const Tensor& grad_q,
                             const Tensor& grad_k, const Tensor& grad_v, const Tensor& grad_bias) {
  constexpr const char* op = "attention_backward";
  AttentionBackwardArgs args{};
  args.forward = attention_args(op, q, k, v, options);
  check_like(op, "grad_output", grad_output, "q", q);
  check_shape(op, "grad_output", grad_output, q.shape());
  check_like(op, "the forward's out", forward.out, "q", q);
  check_shape(op, "the forward's out", forward.out, q.shape());
  check_contiguous(op, "the forward's out", forward.out);
  ONDOL_CHECK(args.forward.block_table == nullptr, "[", op, "] keys in blocks have no backward");
  ONDOL_CHECK(args.forward.q_offsets == nullptr || !grad_bias.defined(), "[", op,
              "] an unpadded batch has no gradient of the bias");
  check_dtype(op, "the forward's lse", forward.lse, DType::f32, q);
  check_shape(op, "the forward's lse", forward.lse, lse_shape(args.forward));
  check_heads(op, "grad_q", grad_q, q);
  check_heads(op, "grad_k", grad_k, q);
  check_heads(op, "grad_v", grad_v, q);
  check_shape(op, "grad_q", grad_q, q.shape());
  check_shape(op, "grad_k", grad_k, k.shape());
  check_shape(op, "grad_v", grad_v, v.shape());
  args.forward.out = forward.out.raw();
  args.forward.lse = forward.lse.data<float>();
  const Tensor grads = grad_output.contiguous();
  args.grad_out = grads.raw();
  args.grad_q = grad_q.raw();
  args.grad_k = grad_k.raw();
  args.grad_v = grad_v.raw();
  args.grad_q_stride_b = grad_q.stride(0), args.grad_q_stride_t = grad_q.stride(1);
  args.grad_q_stride_h = grad_q.stride(2);
  args.grad_k_stride_b = grad_k.stride(0), args.grad_k_stride_t = grad_k.stride(1);
  args.grad_k_stride_h = grad_k.stride(2);
  args.grad_v_stride_b = grad_v.stride(0), args.grad_v_stride_t = grad_v.stride(1);
  args.grad_v_stride_h = grad_v.stride(2);
  if (grad_bias.defined()) {
    check_dtype(op, "grad_bias", grad_bias, DType::f32, q);
    check_shape(op, "grad_bias", grad_bias, {q.size(2), q.size(1), k.size(1)});
    check_contiguous(op, "grad_bias", grad_bias);
    args.grad_bias = grad_bias.data<float>();
  }
  if (q.numel() == 0 || k.numel() == 0) {
    grad_q.zero();
    grad_k.zero();
    grad_v.zero();
    if (grad_bias.defined()) grad_bias.zero();
    return;
  }
  const Tensor workspace = Tensor::empty(forward.lse.shape(), DType::f32, q.device());
  args.workspace = workspace.data<float>();
  run_kernel(&KernelTable::attention_backward, q.device(), q.dtype(), args);
}

Tensor sum_relative_bias_grad(const Tensor& grad_bias) {
  constexpr const char* op = "sum_relative_bias_grad";
  check_dtype(op, "grad_bias", grad_bias, DType::f32, grad_bias);
  ONDOL_CHECK(grad_bias.ndim() == 3 && grad_bias.numel() > 0, "[", op, "] grad_bias has shape ", grad_bias.shape(),
              ": (H, Tq, Tk) is needed");
  const int64_t heads = grad_bias.size(0), queries = grad_bias.size(1), keys = grad_bias.size(2);
  if (queries == 1) return grad_bias.select(1, 0).contiguous();
  // Rows written at a pitch of one less than that at which they are read: each query comes to stand one column further
  // left than the one before, and diagonals become columns.
  const int64_t columns = queries + keys - 1;
  const Tensor sheared = Tensor::zeros({1, queries, columns}, DType::f32, grad_bias.device());
  const Tensor slanted = sheared.reshape({queries * columns})
                             .narrow(0, queries - 1, queries * (columns - 1))
                             .reshape({queries, columns - 1})
                             .narrow(1, 0, keys);
  const Tensor sums = Tensor::empty({heads, columns}, DType::f32, grad_bias.device());
  for (int64_t h = 0; h < heads; ++h) {
    slanted.copy_from(grad_bias.select(0, h));
    sums.narrow(0, h, 1).copy_from(sum_f32(sheared, 1));
  }
  return sums;
}

}  // namespace ondol::ops
