// Cases of autograd/functions.h: what the tape does around the kernels. The forward runs without a tape, the backward
// records it again and pushes the gradient in at the output.
#include <ondol/autograd/functions.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

using Call = std::function<Variable(const std::vector<Variable>&)>;

OpCase tape_case(const char* function, DType dtype, const std::string& details, std::vector<Input> inputs, Call call) {
  OpCase c;
  c.op = concat("autograd_", function);
  c.name = concat("autograd ", function, " ", dtype_name(dtype), " ", details);
  c.dtype = dtype;
  c.inputs = std::move(inputs);
  std::vector<bool> wanted;
  for (const Input& input : c.inputs) wanted.push_back(input.differentiable);
  c.run = [call = std::move(call), wanted](const std::vector<Tensor>& in, bool) {
    const auto variables = [in, wanted] {
      std::vector<Variable> made;
      for (size_t i = 0; i < in.size(); ++i) made.emplace_back(in[i], wanted[i]);
      return made;
    };
    return OpResult{
        {call(variables()).value()}, [call, variables](const std::vector<Tensor>& grads) {
          const std::vector<Variable> leaves = variables();
          Tape tape;
          call(leaves).add_grad(grads[0]);
          tape.backward(Variable(Tensor::zeros({1}, DType::f32, grads[0].device()), true));
          std::vector<Tensor> results;
          for (const Variable& leaf : leaves) {
            if (!leaf.requires_grad()) continue;
            // No gradient arrives where the output has no elements.
            results.push_back(leaf.has_grad() ? leaf.grad() : Tensor::zeros(leaf.shape(), DType::f32, leaf.device()));
          }
          return results;
        }};
  };
  c.grad_outputs = 1;
  return c;
}

/// A case whose output has the values that `reference` gives: one array from the inputs' arrays.
template <class Reference>
void add(std::vector<OpCase>& cases, OpCase c, Reference reference) {
  set_reference(c, [reference]<class T>(const std::vector<Array<T>>& in, Round round) {
    return std::vector<Array<T>>{reference(in, round)};
  });
  cases.push_back(std::move(c));
}

Input wanted(const Shape& shape, DType dtype, Layout layout = Layout::contiguous) {
  return {.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true};
}

void add_binary(std::vector<OpCase>& cases, DType dtype) {
  struct Shapes {
    Shape a, b, out;
    Layout layout_a = Layout::contiguous, layout_b = Layout::contiguous;
  };
  const Shapes shapes[] = {{{1}, {1}, {1}},
                           {{0, 4}, {4}, {0, 4}},
                           {{3, 17}, {3, 17}, {3, 17}},
                           {{2, 3, 19}, {19}, {2, 3, 19}},
                           {{2, 3, 4}, {3, 1}, {2, 3, 4}},
                           {{2, 1, 33}, {5, 1}, {2, 5, 33}},
                           {{7}, {4, 1}, {4, 7}},
                           {{1}, {2, 40}, {2, 40}},
                           {{5, 9}, {5, 9}, {5, 9}, Layout::transposed, Layout::contiguous},
                           {{6, 21}, {6, 21}, {6, 21}, Layout::sliced, Layout::transposed},
                           {{4, 1, 18}, {6, 18}, {4, 6, 18}, Layout::contiguous, Layout::sliced},
                           {{7, 129}, {7, 129}, {7, 129}, Layout::shifted, Layout::shifted},
                           {{65, 63}, {63}, {65, 63}},
                           {{257, 64}, {257, 1}, {257, 64}},
                           {{2, 3, 4, 5}, {3, 1, 5}, {2, 3, 4, 5}}};
  for (const auto& [a, b, out, layout_a, layout_b] : shapes) {
    const std::string details = concat(a, layout_name(layout_a), " ", b, layout_name(layout_b));
    const std::vector<Input> inputs = {wanted(a, dtype, layout_a), wanted(b, dtype, layout_b)};
    const auto with = [&, target = out](const char* name, Variable (*call)(const Variable&, const Variable&),
                                        auto combine) {
      add(cases, tape_case(name, dtype, details, inputs, [call](const auto& in) { return call(in[0], in[1]); }),
          [target, combine](const auto& in, Round) { return reference::binary(in[0], in[1], target, combine); });
    };
    with("add", functions::add, [](auto x, auto y) { return x + y; });
    with("sub", functions::sub, [](auto x, auto y) { return x - y; });
    with("mul", functions::mul, [](auto x, auto y) { return x * y; });
  }
}

void add_reductions(std::vector<OpCase>& cases, DType dtype) {
  struct Shapes {
    Shape shape;
    int dim;
    Layout layout = Layout::contiguous;
  };
  const Shapes shapes[] = {{{1}, 0},          {{9}, 0},          {{3, 5}, 0},
                           {{3, 5}, 1},       {{0, 5}, 1},       {{2, 7, 3}, 1},
                           {{2, 70, 33}, 1},  {{2, 3, 17}, 2},   {{40, 6}, 1, Layout::transposed},
                           {{257, 33}, 0},    {{2, 16385}, 1},   {{3, 129}, 1, Layout::shifted},
                           {{1, 2, 3, 4}, 0}, {{3, 64, 16}, -2}, {{8, 21}, 0, Layout::sliced}};
  for (const auto& [shape, dim, layout] : shapes) {
    const std::string details = concat(shape, layout_name(layout), " dim ", dim);
    const int at = shape.normalize(dim);
    for (const bool mean : {false, true}) {
      add(cases,
          tape_case(mean ? "mean" : "sum", dtype, details, {wanted(shape, dtype, layout)},
                    [mean, axis = dim](const auto& in) {
                      return mean ? functions::mean(in[0], axis) : functions::sum(in[0], axis);
                    }),
          [mean, at](const auto& in, Round) {
            auto out = reference::sum(in[0], at);
            for (auto& v : out.values) v /= static_cast<std::decay_t<decltype(v)>>(mean ? in[0].shape[at] : 1);
            return out;
          });
    }
  }
}

/// Losses that are sums over elements.
void add_elementwise_losses(std::vector<OpCase>& cases, DType dtype) {
  for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::shifted}) {
    for (const Shape& shape : {Shape{1, 1}, Shape{5, 3}, Shape{33, 67}}) {
      const std::vector<Input> inputs = {wanted(shape, dtype, layout), {.shape = shape, .dtype = DType::f32}};
      const std::string details = concat(shape, layout_name(layout));
      add(cases,
          tape_case("squared_error", dtype, details, inputs,
                    [](const auto& in) { return functions::squared_error(in[0], in[1].value(), 0.25); }),
          []<class T>(const std::vector<Array<T>>& in, Round) {
            Array<T> out(Shape{1});
            for (int64_t i = 0; i < in[0].numel(); ++i)
              out[0] += T(0.25) * (in[0][i] - in[1][i]) * (in[0][i] - in[1][i]);
            return out;
          });
      add(cases,
          tape_case("binary_cross_entropy", dtype, details, inputs,
                    [](const auto& in) { return functions::binary_cross_entropy(in[0], in[1].value(), 0.25); }),
          []<class T>(const std::vector<Array<T>>& in, Round) {
            Array<T> out(Shape{1});
            for (int64_t i = 0; i < in[0].numel(); ++i) {
              out[0] += T(0.25) * (std::log1p(std::exp(in[0][i])) - in[0][i] * in[1][i]);
            }
            return out;
          });
    }
  }
}

void add_cosine_distance(std::vector<OpCase>& cases, DType dtype) {
  for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::sliced}) {
    for (const Shape& shape : {Shape{1, 1}, Shape{5, 3}, Shape{33, 67}, Shape{0, 4}}) {
      for (const bool weighted : {false, true}) {
        const std::vector<Input> inputs = {wanted(shape, dtype, layout),
                                           {.shape = shape, .dtype = dtype, .layout = layout},
                                           {.shape = {shape[0]}, .dtype = DType::f32, .fill = Fill::positive}};
        OpCase c = tape_case("cosine_distance", dtype, concat(shape, layout_name(layout), weighted ? " weighted" : ""),
                             inputs, [weighted](const auto& in) {
                               return functions::cosine_distance(in[0], in[1].value(),
                                                                 weighted ? in[2].value() : Tensor(), 0.25);
                             });
        c.cancellation = 2.0;  // what is along the target and along x
        add(cases, std::move(c), [weighted]<class T>(const std::vector<Array<T>>& in, Round) {
          Array<T> out(Shape{1});
          for (int64_t r = 0; r < in[0].rows(); ++r) {
            T product = 0, a = T(1e-12), b = T(1e-12);
            for (int64_t i = r * in[0].cols(); i < (r + 1) * in[0].cols(); ++i) {
              product += in[0][i] * in[1][i];
              a += in[0][i] * in[0][i];
              b += in[1][i] * in[1][i];
            }
            out[0] += T(0.25) * (weighted ? in[2][r] : T(1)) * (1 - product / std::sqrt(a * b));
          }
          return out;
        });
      }
    }
  }
}

/// reshape, transpose, narrow: functions that move nothing or little.
void add_views(std::vector<OpCase>& cases, DType dtype) {
  for (const Layout layout : {Layout::contiguous, Layout::transposed, Layout::sliced, Layout::shifted}) {
    const std::vector<Input> inputs = {wanted({6, 10}, dtype, layout)};
    add(cases,
        tape_case("reshape", dtype, layout_name(layout), inputs,
                  [](const auto& in) {
                    return functions::reshape(functions::scale(in[0], 1.0f), {3, 4, 5});
                  }),
        [](const auto& in, Round) {
          auto out = in[0];
          out.shape = {3, 4, 5};
          return out;
        });
    add(cases,
        tape_case("transpose", dtype, layout_name(layout), inputs,
                  [](const auto& in) { return functions::transpose(in[0], 0, 1); }),
        [](const auto& in, Round) {
          auto out = in[0];
          out.shape = {10, 6};
          for (int64_t i = 0; i < 60; ++i) out[i] = in[0][i % 6 * 10 + i / 6];
          return out;
        });
    add(cases,
        tape_case("narrow", dtype, layout_name(layout), inputs,
                  [](const auto& in) { return functions::narrow(in[0], 1, 3, 5); }),
        [](const auto& in, Round) {
          auto out = in[0];
          out.shape = {6, 5};
          out.values.resize(30);
          for (int64_t i = 0; i < 30; ++i) out[i] = in[0][i / 5 * 10 + 3 + i % 5];
          return out;
        });
  }
}

void add_index(std::vector<OpCase>& cases, DType dtype) {
  struct Sizes {
    Shape x, index;
    int dim;
  };
  const Sizes sizes[] = {
      {{5}, {9}, 0}, {{3, 7}, {3, 1}, 1}, {{3, 7}, {4, 7}, 0}, {{2, 5, 3}, {2, 6, 3}, 1}, {{65, 20}, {65, 33}, 1}};
  for (const auto& [x, index, dim] : sizes) {
    const std::string details = concat(x, " ", index, " dim ", dim);
    const Input ids{.shape = index, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = x[dim]};
    OpCase gather = tape_case("gather", dtype, details, {wanted(x, dtype), ids},
                              [axis = dim](const auto& in) { return functions::gather(in[0], axis, in[1].value()); });
    gather.exact = true;
    add(cases, std::move(gather),
        [axis = dim](const auto& in, Round) { return reference::gather(in[0], axis, in[1]); });
    add(cases,
        tape_case("scatter_add", dtype, details, {wanted(x, dtype), ids, wanted(index, dtype)},
                  [axis = dim](const auto& in) { return functions::scatter_add(in[0], axis, in[1].value(), in[2]); }),
        [axis = dim](const auto& in, Round round) { return reference::scatter_add(in[0], axis, in[1], in[2], round); });
  }
  for (const auto& [vocab, hidden, count] :
       {std::array<int64_t, 3>{5, 3, 8}, {257, 24, 33}, {40, 130, 65}, {3, 64, 129}}) {
    const Shape out{count, hidden};
    OpCase c = tape_case("embedding", dtype, concat(vocab, "x", hidden, " ", count),
                         {wanted({vocab, hidden}, dtype),
                          {.shape = {count}, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = vocab}},
                         [](const auto& in) { return functions::embedding(in[0], in[1].value()); });
    c.exact = true;
    add(cases, std::move(c), [out](const auto& in, Round) { return reference::embedding(in[0], in[1], out); });
  }
  for (const auto& [batch, length, hidden, taken] :
       {std::array<int64_t, 4>{1, 1, 1, 1}, {3, 7, 5, 4}, {2, 40, 24, 33}, {4, 3, 130, 70}, {5, 64, 16, 0}}) {
    OpCase c = tape_case("take_rows", dtype, concat(batch, "x", length, "x", hidden, " ", taken),
                         {wanted({batch, length, hidden}, dtype),
                          {.shape = {batch, taken}, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = length}},
                         [](const auto& in) { return functions::take_rows(in[0], in[1].value()); });
    c.exact = true;
    add(cases, std::move(c), [](const auto& in, Round) { return reference::take_rows(in[0], in[1]); });
  }
}

void add_linear(std::vector<OpCase>& cases, DType dtype) {
  const std::optional<Activation> activations[] = {std::nullopt,          Activation::relu, Activation::gelu_erf,
                                                   Activation::gelu_tanh, Activation::silu, Activation::tanh};
  int number = 0;
  for (const auto& activation : activations) {
    for (const auto& [rows, in_size, out_size] : {std::array<int64_t, 3>{3, 5, 7}, {65, 24, 33}, {64, 32, 64}}) {
      const std::string details = concat(rows, "x", in_size, " to ", out_size, " activation ", number);
      add(cases,
          tape_case("linear", dtype, details,
                    {wanted({rows, in_size}, dtype), wanted({out_size, in_size}, dtype), wanted({out_size}, dtype),
                     wanted({rows, out_size}, dtype)},
                    [activation](const auto& in) {
                      return functions::linear(
                          in[0], {.weight = in[1], .bias = in[2], .activation = activation, .residual = in[3]});
                    }),
          [activation](const auto& in, Round round) {
            auto out = reference::linear(in[0], in[1], &in[2]);
            for (int64_t i = 0; i < out.numel(); ++i) {
              if (activation == Activation::tanh) out[i] = round(out[i]);
              if (activation) out[i] = reference::activation(out[i], *activation);
              out[i] += in[3][i];
            }
            return out;
          });
    }
    ++number;
  }
}

/// out + sum of a norm with a residual: both ways back into x and the residual.
void add_norms(std::vector<OpCase>& cases, DType dtype) {
  const Shape shapes[] = {{3, 7}, {2, 3, 64}, {5, 129}, {265, 16}};
  for (const Shape& shape : shapes) {
    const Shape row{shape[-1]};
    add(cases,
        tape_case("add_rms_norm", dtype, concat(shape),
                  {wanted(shape, dtype), wanted(shape, dtype), wanted(row, dtype)},
                  [](const auto& in) {
                    const functions::NormWithSum r = functions::add_rms_norm(in[0], in[1], in[2], 1e-3f, 1.0f);
                    return functions::add(r.out, r.sum);
                  }),
        []<class T>(const std::vector<Array<T>>& in, Round round) {
          const auto r = reference::norm<T>(in[0], &in[1], &in[2], nullptr, false, T(1e-3f), T(1), round);
          return reference::binary(r[0], r[1], in[0].shape, [round](T a, T b) { return round(a) + b; });
        });
    add(cases,
        tape_case("add_layer_norm", dtype, concat(shape),
                  {wanted(shape, dtype), wanted(shape, dtype), wanted(row, dtype), wanted(row, dtype)},
                  [](const auto& in) {
                    const functions::NormWithSum r = functions::add_layer_norm(in[0], in[1], in[2], in[3], 1e-3f);
                    return functions::add(r.out, r.sum);
                  }),
        []<class T>(const std::vector<Array<T>>& in, Round round) {
          const auto r = reference::norm<T>(in[0], &in[1], &in[2], &in[3], true, T(1e-3f), T(0), round);
          return reference::binary(r[0], r[1], in[0].shape, [round](T a, T b) { return round(a) + b; });
        });
  }
}

struct PackedSizes {
  int64_t heads, kv_heads, dim;
};

/// Attention of the queries, keys and values in one projection (B, T, (H + 2 Hkv) D).
template <class T>
Array<T> packed_reference(const Array<T>& qkv, const PackedSizes& p, const RopeConfig* config, Round round,
                          bool causal = true, const Array<T>* bias = nullptr) {
  const int64_t batch = qkv.shape[0], length = qkv.shape[1], all = p.heads + 2 * p.kv_heads;
  const auto slice = [&](int64_t first, int64_t heads, bool rotated) {
    Array<T> part(Shape{batch, length, heads, p.dim});
    for (int64_t i = 0; i < part.numel(); ++i) {
      const int64_t token = i / (heads * p.dim), within = i % (heads * p.dim);
      part[i] = qkv[(token * all + first) * p.dim + within];
    }
    if (config == nullptr || !rotated) return part;
    part = reference::rope<T>(part, *config, nullptr, 0, false, false);
    for (T& v : part.values) v = round(v);
    return part;
  };
  const Array<T> q = slice(0, p.heads, true), k = slice(p.heads, p.kv_heads, true);
  const Array<T> v = slice(p.heads + p.kv_heads, p.kv_heads, false);
  reference::AttentionInputs<T> a{&q, &k, &v};
  a.scale = T(1) / std::sqrt(static_cast<T>(p.dim));
  a.causal = causal;
  a.bias = bias;
  Array<T> out = reference::attention(a)[0];
  out.shape = {batch, length, p.heads * p.dim};
  return out;
}

/// The same for sequences of an unpadded batch, each on its own.
template <class T>
Array<T> unpadded_reference(const Array<T>& qkv, const std::vector<int64_t>& lengths, const PackedSizes& p,
                            Round round) {
  const int64_t columns = qkv.shape[2];
  Array<T> out(Shape{1, qkv.shape[1], p.heads * p.dim});
  auto next_in = qkv.values.begin();
  auto next_out = out.values.begin();
  for (const int64_t length : lengths) {
    Array<T> one(Shape{1, length, columns});
    std::copy_n(next_in, length * columns, one.values.begin());
    next_in += length * columns;
    next_out = std::copy_n(packed_reference(one, p, nullptr, round).values.begin(), length * p.heads * p.dim, next_out);
  }
  return out;
}

void add_unpadded_attention(std::vector<OpCase>& cases, DType dtype) {
  const PackedSizes p{4, 2, 8};
  const std::vector<int64_t> lengths{5, 1, 7};
  const Shape qkv{1, 13, (p.heads + 2 * p.kv_heads) * p.dim};
  add(cases,
      tape_case("packed_attention", dtype, "unpadded, sequences of 5, 1 and 7", {wanted(qkv, dtype)},
                [=](const auto& in) {
                  functions::PackedAttention arguments{
                      .num_heads = p.heads, .num_kv_heads = p.kv_heads, .head_dim = p.dim};
                  arguments.options.causal = true;
                  arguments.options.q_sequences = SequenceOffsets::from_lengths(lengths, in[0].device());
                  arguments.options.kv_sequences = arguments.options.q_sequences;
                  return functions::packed_attention(functions::scale(in[0], 1.0f), arguments);
                }),
      [=](const auto& in, Round round) { return unpadded_reference(in[0], lengths, p, round); });
}

/// One fused projection, rotated in place or not, with groups of heads.
void add_packed_attention(std::vector<OpCase>& cases, DType dtype) {
  struct Sizes {
    int64_t batch, length, heads, kv_heads, dim;
  };
  const Sizes sizes[] = {{1, 1, 1, 1, 2}, {2, 7, 2, 2, 8}, {1, 33, 4, 1, 16}, {2, 9, 6, 2, 20}, {1, 65, 3, 3, 32}};
  for (const auto& [batch, length, heads, kv_heads, dim] : sizes) {
    for (const bool rotated : {false, true}) {
      const Shape qkv{batch, length, (heads + 2 * kv_heads) * dim};
      const RopeConfig config{.head_dim = dim, .max_positions = length};
      const PackedSizes p{heads, kv_heads, dim};
      add(cases,
          tape_case("packed_attention", dtype, concat(qkv, " ", heads, "/", kv_heads, rotated ? " rotated" : ""),
                    {wanted(qkv, dtype)},
                    [=](const auto& in) {
                      const auto table = std::make_shared<RopeTable>(ops::make_rope_table(config, in[0].device()));
                      if (Tape::current() != nullptr) Tape::current()->record([table] {});  // for the backward
                      functions::PackedAttention arguments{
                          .num_heads = p.heads, .num_kv_heads = p.kv_heads, .head_dim = p.dim};
                      if (rotated) arguments.rope = table.get();
                      arguments.options.causal = true;
                      return functions::packed_attention(functions::scale(in[0], 1.0f), arguments);
                    }),
          [=](const auto& in, Round round) { return packed_reference(in[0], p, rotated ? &config : nullptr, round); });
    }
  }
}

/// Keys and values of one projection, queries of another.
void add_cross_attention(std::vector<OpCase>& cases, DType dtype) {
  struct Sizes {
    int64_t batch, queries, keys, heads, kv_heads, dim;
  };
  const Sizes sizes[] = {{1, 1, 1, 1, 1, 1}, {2, 5, 9, 2, 2, 8}, {1, 34, 7, 4, 2, 16}, {3, 2, 65, 3, 1, 20}};
  for (const Sizes& s : sizes) {
    const Shape q{s.batch, s.queries, s.heads * s.dim}, kv{s.batch, s.keys, 2 * s.kv_heads * s.dim};
    add(cases,
        tape_case("packed_cross_attention", dtype, concat(q, kv, " ", s.heads, "/", s.kv_heads),
                  {wanted(q, dtype), wanted(kv, dtype)},
                  [=](const auto& in) {
                    return functions::packed_cross_attention(
                        in[0], in[1], {.num_heads = s.heads, .num_kv_heads = s.kv_heads, .head_dim = s.dim});
                  }),
        [=]<class T>(const std::vector<Array<T>>& in, Round) {
          Array<T> query = in[0];
          query.shape = {s.batch, s.queries, s.heads, s.dim};
          Array<T> sides[2];
          const int64_t width = s.kv_heads * s.dim;
          for (int64_t side = 0; side < 2; ++side) {
            sides[side] = Array<T>(Shape{s.batch, s.keys, s.kv_heads, s.dim});
            for (int64_t i = 0; i < sides[side].numel(); ++i) {
              sides[side][i] = in[1][(i / width * 2 + side) * width + i % width];
            }
          }
          reference::AttentionInputs<T> a{&query, &sides[0], &sides[1]};
          a.scale = T(1) / std::sqrt(static_cast<T>(s.dim));
          Array<T> out = reference::attention(a)[0];
          out.shape = q;
          return out;
        });
  }
}

/// A table whose rows biases by distance choose, used by two attentions.
void add_relative_bias(std::vector<OpCase>& cases, DType dtype) {
  constexpr int64_t kHeads = 2, kDim = 8, kRows = 3;
  for (const int64_t length : {1, 6, 33}) {
    const Shape qkv{2, length, 3 * kHeads * kDim}, table{kRows, kHeads};
    const auto row_of = [=](int64_t i) { return (i * i + 1) % kRows; };
    OpCase c =
        tape_case("relative_bias", dtype, concat("length ", length), {wanted(qkv, dtype), wanted(table, dtype)},
                  [=](const auto& in) {
                    std::vector<int32_t> rows;
                    for (int64_t i = 0; i < 2 * length - 1; ++i) rows.push_back(static_cast<int32_t>(row_of(i)));
                    const Tensor buckets = Tensor::from_vector(rows, {2 * length - 1}, in[0].device());
                    const Variable bias = functions::relative_bias(in[1], buckets);
                    functions::PackedAttention arguments{.num_heads = kHeads, .num_kv_heads = kHeads, .head_dim = kDim};
                    arguments.options.relative_origin = length - 1;
                    const Variable first = functions::packed_attention(in[0], arguments, bias);
                    return functions::add(first, functions::packed_attention(in[0], arguments, bias));
                  });
    // Shifting all scores of a query alike changes nothing; both attentions make the same errors.
    c.cancellation = 2;
    add(cases, std::move(c), [=]<class T>(const std::vector<Array<T>>& in, Round round) {
      Array<T> bias(Shape{1, kHeads, length, length});
      for (int64_t i = 0; i < bias.numel(); ++i) {
        const int64_t head = i / (length * length), distance = i % length - i / length % length;
        bias[i] = in[1][row_of(length - 1 + distance) * kHeads + head];
      }
      Array<T> out = packed_reference(in[0], PackedSizes{kHeads, kHeads, kDim}, nullptr, round, false, &bias);
      for (T& value : out.values) value = round(value) + round(value);
      return out;
    });
  }
}

}  // namespace

void add_autograd_cases(std::vector<OpCase>& cases, bool large) {
  if (large) return;  // the benchmark times kernels
  for (const DType dtype : kDataTypes) {
    add_binary(cases, dtype);
    add_reductions(cases, dtype);
    add_elementwise_losses(cases, dtype);
    add_cosine_distance(cases, dtype);
    add_views(cases, dtype);
    add_index(cases, dtype);
    add_linear(cases, dtype);
    add_norms(cases, dtype);
    add_packed_attention(cases, dtype);
    add_unpadded_attention(cases, dtype);
    add_cross_attention(cases, dtype);
    add_relative_bias(cases, dtype);
  }
}

}  // namespace ondol::testing
