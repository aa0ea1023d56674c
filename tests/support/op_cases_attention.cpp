// Cases of attention.h.
#include <ondol/ops/attention.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

struct AttentionSizes {
  int64_t batch, q_len, kv_len, heads, kv_heads, dim;
};

/// What is switched on; bias names its broadcast form.
struct AttentionKind {
  const char* name;
  bool causal = false;
  int64_t window = 0;
  bool key_mask = false, documents = false, kv_lengths = false, q_start = false;
  enum class Bias { none, full, per_head, per_key, by_distance } bias = Bias::none;
  float softcap = 0, dropout_p = 0, scale = 0;
  int64_t first_head = 0, more_heads = 0;  // more_heads > 0: there are so many besides these
  bool prefixes = false;
};

int add_input(OpCase& c, Input input) {
  c.inputs.push_back(std::move(input));
  return static_cast<int>(c.inputs.size()) - 1;
}

std::vector<int32_t> repeated(int64_t count, const std::function<int32_t(int64_t)>& value) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(value(i));
  return out;
}

/// The bias of each pair (B, H, Tq, Tk) that a row of biases by distance stands for.
template <class T>
Array<T> pairs_of(const Array<T>& rows, int64_t origin, const AttentionSizes& s, const Array<T>* q_start) {
  Array<T> out(Shape{s.batch, s.heads, s.q_len, s.kv_len});
  int64_t at = 0;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t start = q_start != nullptr ? static_cast<int64_t>((*q_start)[b]) : s.kv_len - s.q_len;
    for (int64_t h = 0; h < s.heads; ++h) {
      for (int64_t i = 0; i < s.q_len; ++i) {
        for (int64_t j = 0; j < s.kv_len; ++j) out[at++] = rows[h * rows.shape[1] + origin + j - (start + i)];
      }
    }
  }
  return out;
}

OpCase attention_case(DType dtype, const AttentionSizes& s, const AttentionKind& k, Layout layout) {
  OpCase c;
  c.op = "attention";
  c.name = concat("attention ", dtype_name(dtype), " B", s.batch, " Tq", s.q_len, " Tk", s.kv_len, " H", s.heads, "/",
                  s.kv_heads, " D", s.dim, " ", k.name, layout_name(layout));
  c.dtype = dtype;
  add_input(c, {.shape = {s.batch, s.q_len, s.heads, s.dim}, .dtype = dtype, .layout = layout, .differentiable = true});
  const Shape kv{s.batch, s.kv_len, s.kv_heads, s.dim};
  add_input(c, {.shape = kv, .dtype = dtype, .layout = layout, .differentiable = true});
  add_input(c, {.shape = kv, .dtype = dtype, .layout = layout, .differentiable = true});
  int bias = -1, by_distance = -1, q_start = -1, kv_lengths = -1, key_mask = -1, documents = -1, prefix_ends = -1;
  using Bias = AttentionKind::Bias;
  // Just long enough when queries stand where the keys end, and for every start of rows otherwise.
  const int64_t origin = s.kv_len - 1 + (k.q_start ? s.q_len : 0);
  const int64_t distances = origin + (k.q_start ? s.kv_len : s.q_len);
  const bool bias_gradient = k.bias == Bias::per_head || (k.bias == Bias::by_distance && !k.q_start);
  if (k.bias == Bias::by_distance) {
    by_distance = add_input(c, {.shape = {s.heads, distances}, .dtype = dtype, .differentiable = bias_gradient});
  } else if (k.bias != Bias::none) {
    const Shape shape = k.bias == Bias::full       ? Shape{s.batch, s.heads, s.q_len, s.kv_len}
                        : k.bias == Bias::per_head ? Shape{1, s.heads, s.q_len, s.kv_len}
                                                   : Shape{s.batch, 1, 1, s.kv_len};
    bias = add_input(c, {.shape = shape, .dtype = dtype, .differentiable = bias_gradient});
  }
  const auto ints = [&c](const Shape& shape, DType type, const std::function<int32_t(int64_t)>& value) {
    return add_input(c, {.shape = shape, .dtype = type, .fill = Fill::given, .given = repeated(shape.numel(), value)});
  };
  if (k.q_start) {
    q_start = ints({s.batch}, DType::i32, [&s](int64_t b) { return static_cast<int32_t>((b * 3 + 1) % s.kv_len); });
  }
  if (k.kv_lengths) {
    kv_lengths = ints({s.batch}, DType::i32, [&s](int64_t b) {
      return static_cast<int32_t>(std::max<int64_t>(s.kv_len - 2 * b - 1, std::min(s.q_len, s.kv_len)));
    });
  }
  if (k.key_mask) {  // the last sequence is hidden whole when there are several
    key_mask = ints({s.batch, s.kv_len}, DType::u8, [&s](int64_t i) {
      return s.batch > 1 && i / s.kv_len == s.batch - 1 ? 0 : static_cast<int32_t>(i % 4 != 2);
    });
  }
  if (k.prefixes) {  // of more than half of each stretch of keys, one stretch longer than the tiles of the kernels
    const int64_t stretch = std::max<int64_t>(2, s.kv_len * 5 / 8);
    prefix_ends = ints({s.batch, s.q_len}, DType::i32, [&](int64_t n) {
      const int64_t b = n / s.q_len, start = k.q_start ? (b * 3 + 1) % s.kv_len : s.kv_len - s.q_len;
      const int64_t position = std::max<int64_t>(start + n % s.q_len, 0), begin = position / stretch * stretch;
      const int64_t end = begin + stretch * 3 / 5 + b;
      return static_cast<int32_t>(position < end ? end : 0);
    });
  }
  if (k.documents) {
    documents = ints({s.batch, s.q_len}, DType::i32,
                     [&s](int64_t i) { return static_cast<int32_t>(i % s.q_len / std::max<int64_t>(s.q_len / 3, 1)); });
  }
  const uint64_t seed = 99;
  c.run = [=](const std::vector<Tensor>& in, bool gradients) {
    const auto optional = [&in](int at) { return at < 0 ? Tensor() : in[static_cast<size_t>(at)]; };
    AttentionOptions options{.scale = k.scale, .softcap = k.softcap, .causal = k.causal, .window = k.window};
    options.bias = optional(bias);
    options.relative_bias = optional(by_distance);
    options.relative_origin = origin;
    options.q_start = optional(q_start);
    options.kv_lengths = optional(kv_lengths);
    options.key_mask = optional(key_mask);
    options.documents = optional(documents);
    options.prefix_ends = optional(prefix_ends);
    options.dropout_p = k.dropout_p;
    options.rng = {seed, 3, {}};
    options.first_head = k.first_head;
    options.all_heads = k.more_heads > 0 ? s.heads + k.more_heads : 0;
    const ops::AttentionResult r = ops::attention(in[0], in[1], in[2], options, true);
    OpResult result{{r.out, r.lse}, {}};
    if (!gradients) return result;
    result.backward = [=](const std::vector<Tensor>& grads) {
      std::vector<Tensor> out;
      for (int i = 0; i < 3; ++i) out.push_back(Tensor::full(in[i].shape(), 7.0, dtype, in[0].device()));
      if (bias_gradient) {
        out.push_back(Tensor::full({s.heads, s.q_len, s.kv_len}, 7.0, DType::f32, in[0].device()));
      }
      ops::attention_backward_into(grads[0], in[0], in[1], in[2], r, options, out[0], out[1], out[2],
                                   out.size() > 3 ? out[3] : Tensor());
      if (bias_gradient) out[3] = by_distance >= 0 ? ops::sum_relative_bias_grad(out[3]) : out[3].unsqueeze(0);
      return out;
    };
    return result;
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
    const auto optional = [&in](int at) { return at < 0 ? nullptr : &in[static_cast<size_t>(at)]; };
    reference::AttentionInputs<T> a{&in[0], &in[1], &in[2]};
    a.bias = optional(bias);
    Array<T> pairs;
    if (by_distance >= 0) a.bias = &(pairs = pairs_of(*optional(by_distance), origin, s, optional(q_start)));
    a.scale = k.scale != 0 ? static_cast<T>(k.scale) : T(1) / std::sqrt(static_cast<T>(s.dim));
    a.softcap = static_cast<T>(k.softcap);
    a.causal = k.causal;
    a.window = k.window;
    a.q_start = optional(q_start);
    a.kv_lengths = optional(kv_lengths);
    a.key_mask = optional(key_mask);
    a.documents = optional(documents);
    a.prefix_ends = optional(prefix_ends);
    a.dropout_p = k.dropout_p;
    a.key = {seed, 3, 0};
    a.first_head = k.first_head;
    a.all_heads = s.heads + k.more_heads;
    return reference::attention(a);
  });
  c.grad_outputs = 1;
  c.cancellation = 1;
  c.flops = 4.0 * static_cast<double>(s.batch * s.heads * s.q_len * s.kv_len * s.dim) * (k.causal ? 0.5 : 1.0);
  return c;
}

/// Tokens of ragged rows into caches; rows without new tokens, and what the capacity does not hold, change nothing.
void add_append_to_cache(std::vector<OpCase>& cases) {
  struct Sizes {
    int64_t length, capacity, heads, head_dim;
    std::vector<int32_t> starts, ends;
    Layout layout = Layout::contiguous;
  };
  const Sizes list[] = {{1, 1, 1, 1, {0}, {1}},
                        {1, 9, 2, 5, {3, 8, 4}, {4, 9, 4}},
                        {1, 300, 2, 64, {0, 299}, {1, 300}},
                        {4, 7, 3, 8, {0, 2, 5}, {4, 3, 7}},
                        {5, 6, 1, 16, {4, 0}, {9, 0}},
                        {3, 8, 2, 7, {1, 5}, {4, 7}, Layout::shifted},
                        {2, 5, 2, 16, {0, 3}, {2, 4}, Layout::shifted},
                        {2, 5, 1, 24, {0, 3}, {2, 4}, Layout::sliced},
                        {0, 4, 2, 8, {0, 1}, {0, 1}}};
  for (const DType dtype : kDataTypes) {
    for (const Sizes& s : list) {
      const int64_t batch = static_cast<int64_t>(s.starts.size());
      OpCase c;
      c.op = "append_to_cache";
      c.name = concat(c.op, " ", dtype_name(dtype), " ", batch, "x", s.length, " of ", s.capacity, "x", s.heads, "x",
                      s.head_dim, layout_name(s.layout));
      c.dtype = dtype;
      const Shape cache{batch, s.capacity, s.heads, s.head_dim}, tokens{batch, s.length, s.heads, s.head_dim};
      c.inputs = {{.shape = cache, .dtype = dtype},
                  {.shape = cache, .dtype = dtype},
                  {.shape = tokens, .dtype = dtype, .layout = s.layout},
                  {.shape = tokens, .dtype = dtype, .layout = s.layout},
                  {.shape = {batch}, .dtype = DType::i32, .fill = Fill::given, .given = s.starts},
                  {.shape = {batch}, .dtype = DType::i32, .fill = Fill::given, .given = s.ends}};
      c.run = [](const std::vector<Tensor>& in, bool) {
        const Tensor keys = in[0].clone(), values = in[1].clone();
        ops::append_to_cache(keys, values, in[2], in[3], in[4], in[5]);
        return OpResult{{keys, values}, {}};
      };
      set_reference(c, []<class T>(const std::vector<Array<T>>& in, Round) {
        std::vector<Array<T>> caches = {in[0], in[1]};
        const int64_t capacity = in[0].shape[1], width = in[0].shape[2] * in[0].shape[3], length = in[2].shape[1];
        for (size_t side = 0; side < 2; ++side) {
          for (int64_t b = 0; b < in[0].shape[0]; ++b) {
            const int64_t start = static_cast<int64_t>(in[4][b]), end = static_cast<int64_t>(in[5][b]);
            for (int64_t t = 0; t < length && start + t < std::min(end, capacity); ++t) {
              for (int64_t i = 0; i < width; ++i) {
                caches[side][(b * capacity + start + t) * width + i] = in[2 + side][(b * length + t) * width + i];
              }
            }
          }
        }
        return caches;
      });
      c.exact = true;
      cases.push_back(std::move(c));
    }
  }
}

}  // namespace

void add_attention_cases(std::vector<OpCase>& cases, bool large) {
  using Bias = AttentionKind::Bias;
  const AttentionKind kinds[] = {
      {.name = "full"},
      {.name = "scaled", .scale = 0.1f},
      {.name = "causal", .causal = true},
      {.name = "key mask", .key_mask = true},
      {.name = "causal, key mask", .causal = true, .key_mask = true},
      {.name = "causal, window 3", .causal = true, .window = 3},
      {.name = "window 4", .window = 4},
      {.name = "lengths", .kv_lengths = true},
      {.name = "causal, lengths", .causal = true, .kv_lengths = true},
      {.name = "causal, starts", .causal = true, .q_start = true},
      {.name = "softcap", .softcap = 2.0f},
      {.name = "bias", .bias = Bias::full},
      {.name = "causal, bias per head", .causal = true, .bias = Bias::per_head},
      {.name = "bias per key", .bias = Bias::per_key},
      {.name = "dropout", .dropout_p = 0.3f},
      {.name = "causal, dropout, softcap", .causal = true, .softcap = 3.0f, .dropout_p = 0.2f},
      {.name = "causal, dropout of some heads", .causal = true, .dropout_p = 0.3f, .first_head = 2, .more_heads = 3},
      {.name = "dropout of some heads, bias",
       .bias = Bias::per_head,
       .dropout_p = 0.3f,
       .first_head = 2,
       .more_heads = 2},
      {.name = "documents", .documents = true},
      {.name = "causal, documents", .causal = true, .documents = true},
      {.name = "causal, window 33, softcap", .causal = true, .window = 33, .softcap = 1.5f},
      {.name = "bias by distance", .bias = Bias::by_distance},
      {.name = "causal, bias by distance", .causal = true, .bias = Bias::by_distance},
      {.name = "bias by distance, causal, starts", .causal = true, .q_start = true, .bias = Bias::by_distance},
      {.name = "bias per head, key mask", .key_mask = true, .bias = Bias::per_head},
      {.name = "causal, starts, window 5", .causal = true, .window = 5, .q_start = true},
      {.name = "lengths, window 6, key mask", .window = 6, .key_mask = true, .kv_lengths = true},
      {.name = "causal, documents, dropout", .causal = true, .documents = true, .dropout_p = 0.25f},
      {.name = "prefixes", .causal = true, .prefixes = true},
      {.name = "prefixes, documents, dropout", .causal = true, .documents = true, .dropout_p = 0.25f, .prefixes = true},
      {.name = "prefixes, starts, key mask", .causal = true, .key_mask = true, .q_start = true, .prefixes = true},
      {.name = "prefixes, window 7", .causal = true, .window = 7, .prefixes = true}};
  std::vector<AttentionSizes> sizes = {{1, 1, 1, 1, 1, 1},
                                       {2, 3, 3, 2, 2, 8},
                                       {2, 7, 7, 4, 2, 16},
                                       {1, 1, 9, 6, 2, 32},
                                       {3, 5, 12, 3, 1, 20},
                                       {1, 33, 33, 2, 1, 64},
                                       {2, 70, 70, 2, 2, 24},
                                       // Around tiles of queries and keys; more queries than keys; one query, many
                                       // keys; each head size of the kernels; groups of 1, 2, 3, 4, 6 and 8 heads.
                                       {1, 63, 63, 2, 2, 32},
                                       {1, 64, 64, 4, 1, 64},
                                       {1, 65, 65, 3, 3, 40},
                                       {1, 129, 129, 1, 1, 16},
                                       {2, 17, 17, 8, 2, 80},
                                       {1, 33, 40, 6, 3, 96},
                                       {2, 5, 3, 2, 1, 8},
                                       {1, 1, 130, 4, 2, 128},
                                       {3, 2, 31, 6, 1, 72},
                                       {1, 16, 48, 2, 2, 192},
                                       {1, 9, 9, 2, 1, 256},
                                       {2, 32, 32, 8, 1, 48},
                                       {1, 66, 127, 2, 1, 64}};
  for (const DType dtype : kDataTypes) {
    if (large) {
      for (const AttentionSizes& s : {AttentionSizes{8, 256, 256, 6, 6, 64}, AttentionSizes{1, 2048, 2048, 6, 6, 64}}) {
        cases.push_back(attention_case(dtype, s, {.name = "causal", .causal = true}, Layout::contiguous));
      }
      continue;
    }
    for (const AttentionKind& kind : kinds) {
      for (const AttentionSizes& s : sizes) {
        if (kind.documents && s.q_len != s.kv_len) continue;
        // The larger ones are there for the edges of tiles, in every combination of masks but not of the rest.
        const bool many_pairs = s.batch * s.heads * s.q_len * s.kv_len > 4000;
        if (many_pairs && !kind.causal && !kind.key_mask && kind.bias == Bias::none) continue;
        cases.push_back(attention_case(dtype, s, kind, Layout::contiguous));
      }
    }
    for (const Layout layout : {Layout::sliced, Layout::shifted}) {
      for (const int kind : {0, 2, 4, 12, 15}) {
        cases.push_back(attention_case(dtype, {2, 9, 9, 3, 3, 16}, kinds[kind], layout));
        cases.push_back(attention_case(dtype, {1, 65, 65, 4, 2, 64}, kinds[kind], layout));
      }
    }
    // Every head size of the kernels, and one that is padded to it, over several tiles of queries and keys.
    for (const int64_t dim : {32, 40, 64, 96, 128, 200, 256}) {
      cases.push_back(attention_case(dtype, {1, 67, 67, 1, 1, dim}, kinds[2], Layout::contiguous));
    }
    cases.push_back(attention_case(dtype, {1, 68, 132, 1, 1, 32}, {.name = "dropout in blocks", .dropout_p = 0.3f},
                                   Layout::contiguous));
    cases.push_back(attention_case(dtype, {0, 4, 4, 2, 2, 8}, kinds[0], Layout::contiguous));
    cases.push_back(attention_case(dtype, {2, 0, 4, 2, 2, 8}, kinds[0], Layout::contiguous));
  }
  if (!large) add_append_to_cache(cases);
}

}  // namespace ondol::testing
