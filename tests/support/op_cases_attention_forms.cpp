// Cases of attention.h for unpadded batches and for keys and values in blocks of a table.
#include <ondol/ops/attention.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

struct FormKind {
  const char* name;
  bool causal = false;
  int64_t window = 0;
  float softcap = 0, dropout_p = 0;
  bool bias = false, starts = false;
  int64_t first_head = 0, all_heads = 0;
};

struct Heads {
  int64_t count, kv_count, dim;
};

constexpr PhiloxKey kKey{99, 3, 0};

AttentionOptions options_of(const FormKind& k) {
  AttentionOptions options{.softcap = k.softcap, .causal = k.causal, .window = k.window};
  options.dropout_p = k.dropout_p;
  options.first_head = k.first_head, options.all_heads = k.all_heads;
  options.rng = {kKey.seed, kKey.stream, {}};
  return options;
}

template <class T>
reference::AttentionInputs<T> reference_of(const FormKind& k, const Array<T>& q, const Array<T>& keys,
                                           const Array<T>& values) {
  reference::AttentionInputs<T> in{&q, &keys, &values};
  in.scale = T(1) / std::sqrt(static_cast<T>(q.shape[3]));
  in.softcap = static_cast<T>(k.softcap);
  in.causal = k.causal;
  in.window = k.window;
  in.dropout_p = k.dropout_p;
  in.first_head = k.first_head, in.all_heads = k.all_heads;
  in.key = kKey;
  return in;
}

Input given(const Shape& shape, const std::vector<int32_t>& values) {
  return {.shape = shape, .dtype = DType::i32, .fill = Fill::given, .given = values};
}

std::string joined(const std::vector<int32_t>& values) {
  std::string out;
  for (const int32_t v : values) out += (out.empty() ? "" : ",") + std::to_string(v);
  return out;
}

/// The first rows and columns of x (B, 1, rows, columns) at index b, in `shape`.
template <class T>
Array<T> corner_of(const Array<T>& x, int64_t b, const Shape& shape) {
  Array<T> out(shape);
  for (int64_t i = 0; i < shape[-2]; ++i) {
    for (int64_t j = 0; j < shape[-1]; ++j) {
      out[i * shape[-1] + j] = x[(b * x.shape[-2] + i) * x.shape[-1] + j];
    }
  }
  return out;
}

/// Rows begin ... end - 1 of the second dimension of (1, T, H, D).
template <class T>
Array<T> rows_of(const Array<T>& x, int64_t begin, int64_t end) {
  const int64_t row = x.shape[2] * x.shape[3];
  Array<T> out(Shape{1, end - begin, x.shape[2], x.shape[3]});
  std::copy(x.values.begin() + begin * row, x.values.begin() + end * row, out.values.begin());
  return out;
}

/// Where the rows of the sequences lie; max_length may be more than any sequence has.
struct Lengths {
  std::vector<int32_t> offsets{0};
  int64_t max_length = 0;

  Lengths(const std::vector<int32_t>& lengths, int64_t more) {
    for (const int32_t length : lengths) {
      offsets.push_back(offsets.back() + length);
      max_length = std::max<int64_t>(max_length, length);
    }
    max_length = std::min<int64_t>(max_length + more, offsets.back());
  }
  int64_t total() const { return offsets.back(); }
};

/// The oracle: each sequence alone, its results and its numbers of dropout put where the unpadded batch has them.
template <class T>
std::vector<Array<T>> unpadded_reference(const std::vector<Array<T>>& in, const FormKind& k, const Lengths& queries,
                                         const Lengths& keys, int bias, int starts) {
  const int64_t heads = in[0].shape[2], dim = in[0].shape[3], total = queries.total();
  Array<T> out(in[0].shape), lse(Shape{heads, total});
  for (size_t b = 0; b + 1 < queries.offsets.size(); ++b) {
    const int64_t first = queries.offsets[b], count = queries.offsets[b + 1] - first;
    const int64_t first_key = keys.offsets[b], key_count = keys.offsets[b + 1] - first_key;
    if (count == 0) continue;
    const Array<T> q = rows_of(in[0], first, first + count);
    const Array<T> k_rows = rows_of(in[1], first_key, first_key + key_count);
    const Array<T> v_rows = rows_of(in[2], first_key, first_key + key_count);
    reference::AttentionInputs<T> one = reference_of(k, q, k_rows, v_rows);
    one.first_row = first;
    one.row_stride = total;
    one.number_stride = keys.max_length;
    const int64_t index = static_cast<int64_t>(b);
    Array<T> biases, start;
    if (bias >= 0) {
      biases = corner_of(in[static_cast<size_t>(bias)], index, Shape{1, 1, count, key_count});
      one.bias = &biases;
    }
    if (starts >= 0) {
      start = Array<T>(Shape{1}, in[static_cast<size_t>(starts)][index]);
      one.q_start = &start;
    }
    const std::vector<Array<T>> result = reference::attention(one);
    std::copy(result[0].values.begin(), result[0].values.end(), out.values.begin() + first * heads * dim);
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < count; ++i) lse[h * total + first + i] = result[1][h * count + i];
    }
  }
  return {out, lse};
}

OpCase unpadded_case(DType dtype, const FormKind& k, const std::vector<int32_t>& q_lengths,
                     const std::vector<int32_t>& kv_lengths, const Heads& heads, Layout layout = Layout::contiguous) {
  OpCase c;
  c.op = "attention";
  c.dtype = dtype;
  c.name = concat("attention unpadded ", dtype_name(dtype), " Tq ", joined(q_lengths), " Tk ", joined(kv_lengths), " H",
                  heads.count, "/", heads.kv_count, " D", heads.dim, " ", k.name, layout_name(layout));
  const Lengths queries(q_lengths, 3), keys(kv_lengths, 3);
  const int64_t batch = static_cast<int64_t>(q_lengths.size());
  c.inputs.push_back({.shape = {1, queries.total(), heads.count, heads.dim},
                      .dtype = dtype,
                      .layout = layout,
                      .differentiable = true});
  for (int i = 0; i < 2; ++i) {
    c.inputs.push_back({.shape = {1, keys.total(), heads.kv_count, heads.dim},
                        .dtype = dtype,
                        .layout = layout,
                        .differentiable = true});
  }
  c.inputs.push_back(given({batch + 1}, queries.offsets));
  c.inputs.push_back(given({batch + 1}, keys.offsets));
  int bias = -1, starts = -1;
  if (k.bias) {
    bias = static_cast<int>(c.inputs.size());
    c.inputs.push_back({.shape = {batch, 1, queries.max_length, keys.max_length}, .dtype = dtype});
  }
  if (k.starts) {
    starts = static_cast<int>(c.inputs.size());
    std::vector<int32_t> values;
    for (int64_t b = 0; b < batch; ++b) values.push_back(static_cast<int32_t>(2 * b));
    c.inputs.push_back(given({batch}, values));
  }
  c.run = [=](const std::vector<Tensor>& in, bool gradients) {
    AttentionOptions options = options_of(k);
    options.q_sequences = {in[3], queries.max_length};
    options.kv_sequences = {in[4], keys.max_length};
    if (bias >= 0) options.bias = in[static_cast<size_t>(bias)];
    if (starts >= 0) options.q_start = in[static_cast<size_t>(starts)];
    const ops::AttentionResult r = ops::attention(in[0], in[1], in[2], options, true);
    OpResult result{{r.out, r.lse}, {}};
    if (!gradients) return result;
    result.backward = [=](const std::vector<Tensor>& grads) {
      std::vector<Tensor> out;
      for (size_t i = 0; i < 3; ++i) out.push_back(Tensor::full(in[i].shape(), 7.0, dtype, in[0].device()));
      ops::attention_backward_into(grads[0], in[0], in[1], in[2], r, options, out[0], out[1], out[2]);
      return out;
    };
    return result;
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
    return unpadded_reference(in, k, queries, keys, bias, starts);
  });
  c.grad_outputs = 1;
  c.cancellation = 1;
  return c;
}

struct Pool {
  int64_t blocks, block_size;  // blocks of a sequence
};

OpCase paged_case(DType dtype, const FormKind& k, const std::vector<int32_t>& lengths, int64_t q_len, const Pool& pool,
                  const Heads& heads, Layout layout = Layout::contiguous) {
  OpCase c;
  c.op = "attention";
  c.dtype = dtype;
  c.name = concat("attention in blocks ", dtype_name(dtype), " Tq", q_len, " Tk ", joined(lengths), " blocks of ",
                  pool.block_size, " H", heads.count, "/", heads.kv_count, " D", heads.dim, " ", k.name,
                  layout_name(layout));
  const int64_t batch = static_cast<int64_t>(lengths.size()), num_blocks = batch * pool.blocks + 3;
  c.inputs.push_back({.shape = {batch, q_len, heads.count, heads.dim}, .dtype = dtype, .layout = layout});
  for (int i = 0; i < 2; ++i) {
    c.inputs.push_back(
        {.shape = {num_blocks, pool.block_size, heads.kv_count, heads.dim}, .dtype = dtype, .layout = layout});
  }
  std::vector<int32_t> table;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < pool.blocks;
         ++i) {  // in no order, one shared by all sequences; no block behind the last key
      const bool used = i * pool.block_size < lengths[static_cast<size_t>(b)];
      const int64_t block = i == 0 ? 1 : (b * pool.blocks + i) * 5 % num_blocks;
      table.push_back(used ? static_cast<int32_t>(block) : 1 << 30);
    }
  }
  c.inputs.push_back(given({batch, pool.blocks}, table));
  c.inputs.push_back(given({batch}, lengths));
  if (k.starts) {
    std::vector<int32_t> starts;
    for (const int32_t length : lengths) starts.push_back(length / 2);
    c.inputs.push_back(given({batch}, starts));
  }
  c.run = [=](const std::vector<Tensor>& in, bool) {
    AttentionOptions options = options_of(k);
    options.block_table = in[3];
    options.kv_lengths = in[4];
    if (k.starts) options.q_start = in[5];
    const ops::AttentionResult r = ops::attention(in[0], in[1], in[2], options, true);
    return OpResult{{r.out, r.lse}, {}};
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
    const int64_t row = heads.kv_count * heads.dim, kv_len = pool.blocks * pool.block_size;
    Array<T> keys(Shape{batch, kv_len, heads.kv_count, heads.dim}), values(keys.shape);
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t j = 0; j < lengths[static_cast<size_t>(b)]; ++j) {
        const int64_t block = table[static_cast<size_t>(b * pool.blocks + j / pool.block_size)];
        for (int64_t d = 0; d < row; ++d) {
          keys[(b * kv_len + j) * row + d] = in[1][(block * pool.block_size + j % pool.block_size) * row + d];
          values[(b * kv_len + j) * row + d] = in[2][(block * pool.block_size + j % pool.block_size) * row + d];
        }
      }
    }
    reference::AttentionInputs<T> all = reference_of(k, in[0], keys, values);
    all.kv_lengths = &in[4];
    if (k.starts) all.q_start = &in[5];
    return reference::attention(all);
  });
  return c;
}

}  // namespace

void add_attention_form_cases(std::vector<OpCase>& cases) {
  const FormKind kinds[] = {{.name = "full"},
                            {.name = "causal", .causal = true},
                            {.name = "causal, window 5", .causal = true, .window = 5},
                            {.name = "window 3", .window = 3},
                            {.name = "causal, softcap, dropout", .causal = true, .softcap = 2.0f, .dropout_p = 0.2f},
                            {.name = "causal, starts", .causal = true, .starts = true}};
  for (const DType dtype : kDataTypes) {
    for (const FormKind& kind : kinds) {
      cases.push_back(unpadded_case(dtype, kind, {7, 0, 1, 12}, {7, 0, 1, 12}, {4, 2, 16}));
      cases.push_back(unpadded_case(dtype, kind, {70, 3, 27}, {70, 3, 27}, {2, 1, 32}));
      cases.push_back(unpadded_case(dtype, kind, {3, 9, 2, 0}, {9, 31, 0, 5}, {3, 3, 24}));
      cases.push_back(unpadded_case(dtype, kind, {1, 1, 1}, {1, 33, 150}, {6, 2, 20}));
      cases.push_back(unpadded_case(dtype, kind, {17, 34}, {17, 34}, {1, 1, 128}));
      cases.push_back(paged_case(dtype, kind, {48, 31}, 1, {3, 16}, {4, 2, 32}));
      cases.push_back(paged_case(dtype, kind, {35, 1, 0}, 2, {5, 7}, {3, 1, 20}));
      cases.push_back(paged_case(dtype, kind, {140}, 40, {9, 16}, {2, 1, 64}));
      cases.push_back(paged_case(dtype, kind, {317, 129}, 1, {10, 32}, {4, 1, 16}));
    }
    const FormKind some{.name = "dropout of some heads", .dropout_p = 0.3f, .first_head = 3, .all_heads = 8};
    cases.push_back(unpadded_case(dtype, some, {7, 0, 1, 12}, {7, 0, 1, 12}, {4, 2, 16}));
    cases.push_back(unpadded_case(dtype, some, {70, 3, 27}, {70, 3, 27}, {2, 1, 32}));
    cases.push_back(paged_case(dtype, some, {317, 129}, 1, {10, 32}, {4, 1, 16}));
    const FormKind bias{.name = "bias", .bias = true};
    cases.push_back(unpadded_case(dtype, bias, {7, 0, 1, 12}, {7, 3, 1, 12}, {4, 2, 16}));
    cases.push_back(unpadded_case(dtype, bias, {65, 5}, {40, 66}, {2, 1, 32}));
    for (const Layout layout : {Layout::sliced, Layout::shifted}) {
      cases.push_back(unpadded_case(dtype, kinds[1], {20, 45, 6}, {20, 45, 6}, {2, 1, 40}, layout));
      cases.push_back(paged_case(dtype, kinds[1], {33, 12}, 1, {3, 16}, {4, 2, 64}, layout));
    }
    cases.push_back(unpadded_case(dtype, kinds[1], {9}, {9}, {2, 2, 256}));
    cases.push_back(paged_case(dtype, kinds[1], {37}, 3, {5, 8}, {2, 1, 256}));
    cases.push_back(unpadded_case(dtype, kinds[0], {0, 0}, {0, 0}, {2, 2, 8}));
  }
}

}  // namespace ondol::testing
