// Cases of reduce.h (sums, softmax), loss.h and norm.h.
#include <ondol/ops/loss.h>
#include <ondol/ops/norm.h>
#include <ondol/ops/reduce.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

struct ShapedLayout {
  Shape shape;
  Layout layout = Layout::contiguous;
};

std::vector<ShapedLayout> row_shapes(bool large) {
  if (large) return {{{2048, 768}}, {{64, 32768}}};
  return {{{1, 1}},
          {{1, 2}},
          {{3, 7}},
          {{5, 16}},
          {{0, 5}},
          {{2, 64}},
          {{7, 100}},
          {{2, 2, 33}},
          {{9}},
          {{6, 11}, Layout::transposed},
          {{3, 1000}},
          {{5, 40}, Layout::sliced},
          {{130, 257}},
          // Around whole vectors, warps and blocks; more rows than blocks of a backward; a row beyond shared memory.
          {{2, 63}},
          {{2, 65}},
          {{3, 127}},
          {{2, 128}},
          {{3, 129}},
          {{2, 511}},
          {{2, 513}},
          {{2, 1025}},
          {{1, 4097}},
          {{4, 64}, Layout::shifted},
          {{265, 12}},
          {{3, 130}, Layout::sliced},
          {{1, 20011}},
          {{5, 33}, Layout::transposed}};
}

void add_reductions(std::vector<OpCase>& cases, bool large) {
  struct Reduction {
    const char* op;
    Tensor (*call)(const Tensor&, int);
  };
  const Reduction reductions[] = {{"sum", ops::sum}, {"sum_f32", ops::sum_f32}, {"mean", ops::mean}, {"max", ops::max}};
  struct Shapes {
    Shape shape;
    int dim;
    Layout layout = Layout::contiguous;
  };
  std::vector<Shapes> shapes = {{{1}, 0},
                                {{9}, 0},
                                {{3, 5}, 0},
                                {{3, 5}, 1},
                                {{0, 5}, 1},
                                {{4, 0}, 1},
                                {{2, 7, 3}, 1},
                                {{2, 70, 33}, 1},
                                {{2, 3, 17}, 2},
                                {{5, 130}, 0},
                                {{40, 6}, 1, Layout::transposed},
                                {{8, 21}, 0, Layout::sliced},
                                {{3, 40000}, 1},
                                {{1000, 3}, 0},
                                {{700, 65}, 0},
                                {{70000}, 0},
                                {{2100, 1100}, 0},
                                {{257, 33}, 0},
                                {{256, 31}, 0},
                                {{3, 129}, 1, Layout::shifted},
                                {{2, 16385}, 1},
                                {{3, 65, 2}, 1},
                                {{2, 3, 4, 5}, 2}};
  if (large) shapes = {{{2048, 1024}, 0}, {{2048, 1024}, 1}, {{2097152}, 0}};
  for (const Reduction& reduction : reductions) {
    for (const DType dtype : kDataTypes) {
      for (const auto& [shape, dim, layout] : shapes) {
        const bool is_max = std::string(reduction.op) == "max", is_mean = std::string(reduction.op) == "mean";
        if (shape[dim] == 0 && (is_max || is_mean)) continue;
        OpCase c;
        c.op = reduction.op;
        c.name = concat(reduction.op, " ", dtype_name(dtype), " ", shape, layout_name(layout), " dim ", dim);
        c.dtype = dtype;
        c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout}};
        c.run = [call = reduction.call, dim](const std::vector<Tensor>& in, bool) {
          return OpResult{{call(in[0], dim)}, {}};
        };
        set_reference(c, [is_max, is_mean, dim]<class T>(const std::vector<Array<T>>& in, Round) {
          const T start = is_max ? -std::numeric_limits<T>::infinity() : T(0);
          return std::vector<Array<T>>{reference::reduce(
              in[0], dim, start, [is_max](T a, T b) { return is_max ? std::max(a, b) : a + b; },
              [is_mean](T a, T size) { return is_mean ? a / size : a; })};
        });
        c.exact = is_max;
        cases.push_back(std::move(c));
      }
    }
  }
}

void add_sum_rows(std::vector<OpCase>& cases, bool large) {
  std::vector<Shape> shapes = {{5}, {1, 7}, {0, 4}, {2, 3, 19}, {513, 48}, {6, 1}, {256, 33}, {257, 64}, {3, 1025}};
  if (large) shapes = {{2048, 1536}};
  for (const DType dtype : kDataTypes) {
    for (const Shape& shape : shapes) {
      for (const bool accumulate : {false, true}) {
        OpCase c;
        c.op = "sum_rows";
        c.name = concat("sum_rows ", dtype_name(dtype), " ", shape, accumulate ? " accumulate" : "");
        c.dtype = dtype;
        c.inputs = {{.shape = shape, .dtype = dtype}, {.shape = {shape[-1]}}};
        c.run = [accumulate](const std::vector<Tensor>& in, bool) {
          const Tensor target = in[1].clone();
          ops::sum_rows_into(target, in[0], accumulate);
          return OpResult{{target}, {}};
        };
        set_reference(c, [accumulate]<class T>(const std::vector<Array<T>>& in, Round) {
          Array<T> out = accumulate ? in[1] : Array<T>(in[1].shape);
          for (int64_t i = 0; i < in[0].numel(); ++i) out[i % in[0].cols()] += in[0][i];
          return std::vector<Array<T>>{out};
        });
        cases.push_back(std::move(c));
      }
    }
  }
}

void add_argmax(std::vector<OpCase>& cases, bool large) {
  for (const DType dtype : kDataTypes) {
    for (const auto& [shape, layout] : row_shapes(large)) {
      OpCase c;
      c.op = "argmax";
      c.name = concat("argmax ", dtype_name(dtype), " ", shape, layout_name(layout));
      c.dtype = dtype;
      c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout}};
      c.run = [](const std::vector<Tensor>& in, bool) { return OpResult{{ops::argmax(in[0])}, {}}; };
      set_reference(c, []<class T>(const std::vector<Array<T>>& in, Round) {
        const int64_t cols = in[0].cols();
        Array<T> out(Shape(std::span<const int64_t>(in[0].shape.begin(), in[0].shape.end() - 1)));
        for (int64_t r = 0; r < out.numel(); ++r) {
          const auto row = in[0].values.begin() + r * cols;
          out[r] = static_cast<T>(std::max_element(row, row + cols) - row);
        }
        return std::vector<Array<T>>{out};
      });
      c.exact = true;
      cases.push_back(std::move(c));
    }
  }
}

void add_softmax(std::vector<OpCase>& cases, bool large) {
  for (const bool log : {false, true}) {
    for (const DType dtype : kDataTypes) {
      for (const auto& [shape, layout] : row_shapes(large)) {
        for (const double scale : {1.0, 30.0}) {
          OpCase c;
          c.op = log ? "log_softmax" : "softmax";
          c.name = concat(c.op, " ", dtype_name(dtype), " ", shape, layout_name(layout), " scale ", scale);
          c.dtype = dtype;
          c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true, .scale = scale}};
          c.run = [log](const std::vector<Tensor>& in, bool) {
            const Tensor out = log ? ops::log_softmax(in[0]) : ops::softmax(in[0]);
            return OpResult{{out}, [log, out](const std::vector<Tensor>& grads) {
                              return std::vector<Tensor>{log ? ops::log_softmax_backward(grads[0], out)
                                                             : ops::softmax_backward(grads[0], out)};
                            }};
          };
          set_reference(c, [log]<class T>(const std::vector<Array<T>>& in, Round) {
            return std::vector<Array<T>>{log ? reference::log_softmax(in[0]) : reference::softmax(in[0])};
          });
          c.grad_outputs = 1;
          c.cancellation = 1;
          cases.push_back(std::move(c));
        }
      }
    }
  }
}

/// Labels below `limit`, every third one ignored when asked.
std::vector<int32_t> labels_for(int64_t rows, int64_t limit, bool some_ignored) {
  std::vector<int32_t> labels;
  for (int64_t r = 0; r < rows; ++r) {
    labels.push_back(some_ignored && r % 3 != 1 ? kIgnoreIndex : static_cast<int32_t>((r * 7 + 3) % limit));
  }
  return labels;
}

void add_cross_entropy(std::vector<OpCase>& cases, bool large) {
  for (const DType dtype : kDataTypes) {
    for (const auto& [shape, layout] : row_shapes(large)) {
      for (const auto& [some_ignored, smoothing] :
           {std::pair(false, 0.0f), std::pair(true, 0.0f), std::pair(true, 0.1f)}) {
        OpCase c;
        c.op = "cross_entropy";
        c.name = concat("cross_entropy ", dtype_name(dtype), " ", shape, layout_name(layout),
                        some_ignored ? " ignored" : "", smoothing > 0.0f ? " smoothed" : "");
        c.dtype = dtype;
        const Shape rows(std::span<const int64_t>(shape.begin(), shape.end() - 1));
        c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true, .scale = 3.0},
                    {.shape = rows,
                     .dtype = DType::i32,
                     .fill = Fill::given,
                     .given = labels_for(rows.numel(), shape[-1], some_ignored)}};
        LossScale scale(0.5);
        scale.label_smoothing = smoothing;
        c.run = [scale](const std::vector<Tensor>& in, bool) {
          const ops::CrossEntropyResult r = ops::cross_entropy(in[0], in[1], kIgnoreIndex, scale.label_smoothing);
          return OpResult{{r.loss, r.lse}, [in, r, scale](const std::vector<Tensor>&) {
                            const Tensor two = Tensor::full({1}, 2.0, DType::f32, in[0].device());
                            return std::vector<Tensor>{ops::cross_entropy_backward(in[0], in[1], r.lse, scale, two)};
                          }};
        };
        set_reference(c, [scale]<class T>(const std::vector<Array<T>>& in, Round) {
          return reference::cross_entropy(in[0], in[1], kIgnoreIndex, static_cast<double>(scale.label_smoothing));
        });
        c.grad_outputs = 1;
        c.unit_gradient = true;
        cases.push_back(std::move(c));
      }
    }
  }
}

struct HeadCase {
  int64_t rows, vocab, hidden, chunk;
  bool bias;
  float softcap;
  bool some_ignored;
  float smoothing = 0.0f;
};

void add_linear_cross_entropy(std::vector<OpCase>& cases, bool large) {
  std::vector<HeadCase> heads;
  for (const bool bias : {false, true}) {
    for (const float softcap : {0.0f, 5.0f}) {
      for (const bool some_ignored : {false, true}) {
        heads.push_back({1, 1, 1, 0, bias, softcap, some_ignored});
        heads.push_back({7, 13, 5, 0, bias, softcap, some_ignored});
        heads.push_back({12, 33, 17, 5, bias, softcap, some_ignored});
        heads.push_back({40, 65, 32, 16, bias, softcap, some_ignored});
        heads.push_back({40, 65, 32, 16, bias, softcap, some_ignored, 0.2f});
        heads.push_back({64, 64, 16, 0, bias, softcap, some_ignored});
        heads.push_back({65, 129, 33, 32, bias, softcap, some_ignored});
        heads.push_back({3, 1000, 24, 2, bias, softcap, some_ignored});
        heads.push_back({0, 9, 4, 0, bias, softcap, some_ignored});
      }
    }
  }
  heads.push_back({130, 300, 64, 64, false, 0.0f, true});
  if (large) heads = {{2048, 8192, 384, 0, false, 0.0f, false}, {2048, 32768, 384, 0, false, 0.0f, false}};
  for (const DType dtype : kDataTypes) {
    for (const HeadCase& head : heads) {
      OpCase c;
      c.op = "linear_cross_entropy";
      c.name = concat("linear_cross_entropy ", dtype_name(dtype), " ", head.rows, "x", head.vocab, "x", head.hidden,
                      " chunk ", head.chunk, head.bias ? " bias" : "", head.softcap > 0 ? " softcap" : "",
                      head.some_ignored ? " ignored" : "", head.smoothing > 0 ? " smoothed" : "");
      c.dtype = dtype;
      c.inputs = {{.shape = {head.rows, head.hidden}, .dtype = dtype, .differentiable = true},
                  {.shape = {head.vocab, head.hidden}, .dtype = dtype, .differentiable = true},
                  {.shape = {head.rows},
                   .dtype = DType::i32,
                   .fill = Fill::given,
                   .given = labels_for(head.rows, head.vocab, head.some_ignored)}};
      if (head.bias) c.inputs.push_back({.shape = {head.vocab}, .dtype = dtype, .differentiable = true});
      LossScale scale(0.25);
      scale.label_smoothing = head.smoothing;
      c.run = [head, scale](const std::vector<Tensor>& in, bool gradients) {
        const auto r = ops::linear_cross_entropy(
            in[0], in[1], in[2],
            {.scale = scale,
             .softcap = head.softcap,
             .projection = {.bias = head.bias ? in[3] : Tensor(), .gradients = gradients, .chunk_rows = head.chunk}});
        return OpResult{{r.loss}, [r](const std::vector<Tensor>&) {
                          std::vector<Tensor> grads = {r.grad_hidden, r.grad_weight};
                          if (r.grad_bias.defined()) grads.push_back(r.grad_bias);
                          return grads;
                        }};
      };
      set_reference(c, [head]<class T>(const std::vector<Array<T>>& in, Round) {
        Array<T> logits = reference::linear(in[0], in[1], head.bias ? &in[3] : nullptr);
        const T cap = static_cast<T>(head.softcap);
        if (head.softcap > 0) logits = reference::map(logits, [cap](T z) { return cap * std::tanh(z / cap); });
        const auto smoothing = static_cast<double>(head.smoothing);
        const Array<T> losses = reference::cross_entropy(logits, in[2], kIgnoreIndex, smoothing)[0];
        Array<T> loss(Shape{});
        for (int64_t r = 0; r < losses.numel(); ++r) loss[0] += T(0.25) * losses[r];
        return std::vector<Array<T>>{loss};
      });
      c.grad_outputs = 1;
      c.unit_gradient = true;
      c.flops = 6.0 * static_cast<double>(head.rows * head.vocab * head.hidden);
      cases.push_back(std::move(c));
    }
  }
}

struct NormCase {
  bool layer_norm, residual, weight, bias;
  float offset;
};

OpCase norm_case(const NormCase& n, DType dtype, const Shape& shape, Layout layout) {
  OpCase c;
  c.op = n.layer_norm ? "layer_norm" : "rms_norm";
  c.name = concat(c.op, " ", dtype_name(dtype), " ", shape, layout_name(layout), n.residual ? " residual" : "",
                  n.weight ? "" : " plain", n.bias ? " bias" : "", n.offset != 0 ? " offset" : "");
  c.dtype = dtype;
  const Shape row{shape[-1]};
  c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true}};
  const size_t residual_at = c.inputs.size();
  if (n.residual) c.inputs.push_back({.shape = shape, .dtype = dtype});
  const size_t weight_at = c.inputs.size();
  if (n.weight) c.inputs.push_back({.shape = row, .dtype = dtype, .differentiable = true});
  const size_t bias_at = c.inputs.size();
  if (n.bias) c.inputs.push_back({.shape = row, .dtype = dtype, .differentiable = true});
  const float eps = 1e-3f;
  c.run = [=](const std::vector<Tensor>& in, bool) {
    ops::NormOptions options{.eps = eps, .weight_offset = n.offset};
    if (n.residual) options.residual = &in[residual_at];
    const Tensor weight = n.weight ? in[weight_at] : Tensor(), bias = n.bias ? in[bias_at] : Tensor();
    const ops::NormResult r =
        n.layer_norm ? ops::layer_norm(in[0], weight, bias, options) : ops::rms_norm(in[0], weight, options);
    return OpResult{
        {r.out, r.sum}, [=](const std::vector<Tensor>& grads) {
          ops::NormWeightGradients targets;
          const Shape cols{r.out.size(-1)};
          // Accumulation is checked too: the buffers hold 1, which is taken off again below.
          targets.accumulate = true;
          if (n.weight) targets.weight = Tensor::full(cols, 1.0, DType::f32, in[0].device());
          if (n.bias) targets.bias = Tensor::full(cols, 1.0, DType::f32, in[0].device());
          std::vector<Tensor> result = {ops::norm_backward(grads[0], grads[1], r, weight, n.offset, targets)};
          if (n.weight) result.push_back(targets.weight);
          if (n.bias) result.push_back(targets.bias);
          for (size_t i = 1; i < result.size(); ++i) result[i].copy_from(ops::add_scalar(result[i], -1.0f));
          return result;
        }};
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round round) {
    return reference::norm(in[0], n.residual ? &in[residual_at] : nullptr, n.weight ? &in[weight_at] : nullptr,
                           n.bias ? &in[bias_at] : nullptr, n.layer_norm, static_cast<T>(eps), static_cast<T>(n.offset),
                           round);
  });
  c.grad_outputs = 2;
  c.cancellation = shape[-1] <= 2 ? 2.0 / std::sqrt(eps) : 0.0;  // hardly anything is left of a row of one or two
  return c;
}

}  // namespace

void add_reduce_cases(std::vector<OpCase>& cases, bool large) {
  add_reductions(cases, large);
  add_sum_rows(cases, large);
  add_argmax(cases, large);
  add_softmax(cases, large);
}

void add_loss_cases(std::vector<OpCase>& cases, bool large) {
  add_cross_entropy(cases, large);
  add_linear_cross_entropy(cases, large);
}

void add_norm_cases(std::vector<OpCase>& cases, bool large) {
  std::vector<ShapedLayout> shapes = row_shapes(false);
  if (large) shapes = {{{2048, 768}}};
  const NormCase kinds[] = {{false, false, true, false, 0.0f}, {false, true, true, false, 0.0f},
                            {false, false, true, false, 1.0f}, {false, true, false, false, 0.0f},
                            {true, false, true, true, 0.0f},   {true, true, true, true, 0.0f},
                            {true, false, true, false, 0.0f},  {true, false, false, false, 0.0f}};
  for (const NormCase& kind : kinds) {
    for (const DType dtype : kDataTypes) {
      for (const auto& [shape, layout] : shapes) cases.push_back(norm_case(kind, dtype, shape, layout));
    }
  }
}

}  // namespace ondol::testing
