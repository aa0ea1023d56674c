// Cases of embedding.h, gather and scatter_add, concat, rope.h and optimizer.h.
#include <ondol/ops/embedding.h>
#include <ondol/ops/optimizer.h>
#include <ondol/ops/reduce.h>
#include <ondol/ops/rope.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

void add_embedding(std::vector<OpCase>& cases, bool large) {
  struct Sizes {
    int64_t vocab, hidden;
    Shape ids;
    int64_t padding_idx = -1;
  };
  std::vector<Sizes> sizes = {{1, 1, {1}},
                              {5, 3, {2, 4}},
                              {10, 17, {0}},
                              {7, 16, {3, 5}, 2},
                              {30, 33, {2, 3, 4}},
                              {4, 100, {70}},
                              {50, 64, {8, 9}, 0},
                              {300, 130, {20, 25}},
                              // Around a tile of the sort and its digits; rows wider than a block.
                              {255, 8, {255}},
                              {256, 8, {256}},
                              {257, 5, {257}, 256},
                              {65535, 1, {40}},
                              {65537, 1, {3, 17}},
                              {6, 1030, {9}},
                              // Runs of one id from a few to all positions.
                              {1, 16, {129}},
                              {3, 8, {64}},
                              {2, 24, {513}}};
  if (large) sizes = {{8192, 768, {2048}}};
  for (const DType dtype : kDataTypes) {
    for (const Sizes& s : sizes) {
      OpCase c;
      c.op = "embedding";
      c.name =
          concat("embedding ", dtype_name(dtype), " ", s.vocab, "x", s.hidden, " ", s.ids, " padding ", s.padding_idx);
      c.dtype = dtype;
      c.inputs = {{.shape = {s.vocab, s.hidden}, .dtype = dtype, .differentiable = s.padding_idx < 0},
                  {.shape = s.ids, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = s.vocab}};
      c.run = [s](const std::vector<Tensor>& in, bool) {
        return OpResult{{ops::embedding(in[0], in[1])}, [in, s](const std::vector<Tensor>& grads) {
                          const Tensor grad = Tensor::full({s.vocab, s.hidden}, 9.0, DType::f32, in[0].device());
                          ops::embedding_backward_into(grad, grads[0], in[1], false, s.padding_idx);
                          return std::vector<Tensor>{grad};
                        }};
      };
      std::vector<int64_t> out_sizes(s.ids.begin(), s.ids.end());
      out_sizes.push_back(s.hidden);
      const Shape out{std::span<const int64_t>(out_sizes)};
      set_reference(c, [out]<class T>(const std::vector<Array<T>>& in, Round) {
        return std::vector<Array<T>>{reference::embedding(in[0], in[1], out)};
      });
      c.exact = true;
      c.grad_outputs = s.padding_idx < 0 ? 1 : 0;
      cases.push_back(std::move(c));

      OpCase b;  // the backward as an op of its own: padding and accumulation
      b.op = "embedding_backward";
      b.name =
          concat(b.op, " ", dtype_name(dtype), " ", s.vocab, "x", s.hidden, " ", s.ids, " padding ", s.padding_idx);
      b.dtype = dtype;
      b.inputs = {{.shape = {s.vocab, s.hidden}},
                  {.shape = out, .dtype = dtype},
                  {.shape = s.ids, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = s.vocab}};
      b.run = [s, large](const std::vector<Tensor>& in, bool) {
        const Tensor table = large ? in[0] : in[0].clone();
        ops::embedding_backward_into(table, in[1], in[2], true, s.padding_idx);
        return OpResult{{table}, {}};
      };
      set_reference(b, [s]<class T>(const std::vector<Array<T>>& in, Round) {
        Array<T> table = in[0];
        for (int64_t i = 0; i < in[2].numel(); ++i) {
          const int64_t id = static_cast<int64_t>(in[2][i]);
          if (id == s.padding_idx) continue;
          for (int64_t k = 0; k < s.hidden; ++k) table[id * s.hidden + k] += in[1][i * s.hidden + k];
        }
        return std::vector<Array<T>>{table};
      });
      cases.push_back(std::move(b));
    }
  }
}

void add_gather(std::vector<OpCase>& cases, bool large) {
  struct Sizes {
    Shape x, index;
    int dim;
  };
  std::vector<Sizes> sizes = {{{1}, {1}, 0},
                              {{5}, {9}, 0},
                              {{3, 7}, {3, 1}, 1},
                              {{3, 7}, {4, 7}, 0},
                              {{2, 5, 3}, {2, 6, 3}, 1},
                              {{4, 3}, {4, 0}, 1},
                              {{2, 9, 17}, {2, 4, 17}, 1},
                              {{3, 257}, {3, 129}, 1},
                              {{65, 3}, {64, 3}, 0},
                              {{2, 4, 1, 5}, {2, 9, 1, 5}, 1},
                              {{100, 40}, {100, 90}, 1}};
  if (large) sizes = {{{2048, 1024}, {2048, 256}, 1}};
  for (const DType dtype : kDataTypes) {
    for (const Sizes& s : sizes) {
      OpCase c;
      c.op = "gather";
      c.name = concat("gather ", dtype_name(dtype), " ", s.x, " ", s.index, " dim ", s.dim);
      c.dtype = dtype;
      c.inputs = {{.shape = s.x, .dtype = dtype, .differentiable = true},
                  {.shape = s.index, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = s.x[s.dim]}};
      const int dim = s.dim;
      c.run = [dim](const std::vector<Tensor>& in, bool) {
        return OpResult{{ops::gather(in[0], dim, in[1])}, [in, dim](const std::vector<Tensor>& grads) {
                          const Tensor grad = Tensor::zeros(in[0].shape(), DType::f32, in[0].device());
                          ops::scatter_add(grad, dim, in[1], grads[0].to(DType::f32));
                          return std::vector<Tensor>{grad};
                        }};
      };
      set_reference(c, [dim]<class T>(const std::vector<Array<T>>& in, Round) {
        return std::vector<Array<T>>{reference::gather(in[0], dim, in[1])};
      });
      c.exact = true;
      c.grad_outputs = 1;
      cases.push_back(std::move(c));

      OpCase a;
      a.op = "scatter_add";
      a.name = concat("scatter_add ", dtype_name(dtype), " ", s.x, " ", s.index, " dim ", s.dim);
      a.dtype = dtype;
      a.inputs = {{.shape = s.x, .dtype = dtype},
                  {.shape = s.index, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = s.x[s.dim]},
                  {.shape = s.index, .dtype = dtype}};
      a.run = [dim](const std::vector<Tensor>& in, bool) {
        const Tensor target = in[0].clone();
        ops::scatter_add(target, dim, in[1], in[2]);
        return OpResult{{target}, {}};
      };
      set_reference(a, [dim]<class T>(const std::vector<Array<T>>& in, Round round) {
        return std::vector<Array<T>>{reference::scatter_add(in[0], dim, in[1], in[2], round)};
      });
      cases.push_back(std::move(a));
    }
  }
}

void add_concat(std::vector<OpCase>& cases) {
  struct Shapes {
    Shape a, b;
    int dim;
    Layout layout = Layout::contiguous;
  };
  const Shapes shapes[] = {{{1}, {1}, 0},
                           {{2, 3}, {2, 4}, 1},
                           {{2, 3}, {5, 3}, 0},
                           {{2, 0, 4}, {2, 3, 4}, 1},
                           {{3, 5}, {3, 2}, 1, Layout::transposed},
                           {{2, 6, 7}, {2, 1, 7}, 1, Layout::sliced}};
  for (const DType dtype : {DType::f32, DType::bf16, DType::i32}) {
    for (const auto& [a, b, dim, layout] : shapes) {
      OpCase c;
      c.op = "concat";
      c.name = concat("concat ", dtype_name(dtype), " ", a, layout_name(layout), " ", b, " dim ", dim);
      c.dtype = dtype == DType::bf16 ? DType::bf16 : DType::f32;
      const Fill fill = dtype == DType::i32 ? Fill::uniform_ids : Fill::normal;
      c.inputs = {{.shape = a, .dtype = dtype, .fill = fill, .layout = layout, .limit = 100},
                  {.shape = b, .dtype = dtype, .fill = fill, .limit = 100}};
      c.run = [axis = dim](const std::vector<Tensor>& in, bool) { return OpResult{{ops::concat(in, axis)}, {}}; };
      set_reference(c, [axis = dim]<class T>(const std::vector<Array<T>>& in, Round) {
        Shape shape = in[0].shape;
        shape.set(axis, in[0].shape[axis] + in[1].shape[axis]);
        int64_t inner = 1, outer = 1;
        for (int d = 0; d < axis; ++d) outer *= shape[d];
        for (int d = axis + 1; d < shape.ndim(); ++d) inner *= shape[d];
        Array<T> out(shape);
        out.values.clear();
        for (int64_t o = 0; o < outer; ++o) {
          for (const Array<T>& part : in) {
            const int64_t run = part.shape[axis] * inner;
            out.values.insert(out.values.end(), part.values.begin() + o * run, part.values.begin() + (o + 1) * run);
          }
        }
        return std::vector<Array<T>>{out};
      });
      c.exact = true;
      cases.push_back(std::move(c));
    }
  }
}

OpCase rope_case(DType dtype, const Shape& shape, Layout layout, const RopeConfig& config, bool interleaved,
                 bool inverse, int64_t offset, bool given_positions, bool in_place) {
  OpCase c;
  c.op = "rope";
  c.name = concat("rope ", dtype_name(dtype), " ", shape, layout_name(layout), " rotary ", config.rotary_dim, " ",
                  config.type, interleaved ? " interleaved" : "", inverse ? " inverse" : "", " offset ", offset,
                  given_positions ? " positions" : "", in_place ? " in place" : "");
  c.dtype = dtype;
  c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true}};
  if (given_positions) {
    c.inputs.push_back(
        {.shape = {shape[0], shape[1]}, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = config.max_positions});
  }
  c.run = [=](const std::vector<Tensor>& in, bool) {
    const RopeTable table = ops::make_rope_table(config, in[0].device());
    const ops::RopeOptions options{.positions = given_positions ? &in[1] : nullptr,
                                   .position_offset = offset,
                                   .interleaved = interleaved,
                                   .inverse = inverse};
    Tensor out;
    if (in_place) {
      // A view inside a wider tensor, as a slice of a fused projection is.
      const Tensor wide = Tensor::zeros({shape[0], shape[1], shape[2] + 3, shape[3]}, dtype, in[0].device());
      out = wide.narrow(2, 1, shape[2]);
      out.copy_from(in[0]);
      ops::rope_in_place(out, table, options);
    } else {
      out = ops::rope(in[0], table, options);
    }
    return OpResult{{out}, [=](const std::vector<Tensor>& grads) {
                      ops::RopeOptions back = options;
                      back.positions = given_positions ? &in[1] : nullptr;
                      back.inverse = !inverse;
                      return std::vector<Tensor>{ops::rope(grads[0], table, back)};
                    }};
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
    return std::vector<Array<T>>{
        reference::rope(in[0], config, given_positions ? &in[1] : nullptr, offset, interleaved, inverse)};
  });
  c.grad_outputs = 1;
  return c;
}

void add_lion(std::vector<OpCase>& cases, int64_t count) {
  OpCase c;
  c.op = "lion";
  c.name = concat("lion ", count);
  c.inputs = {{.shape = {count}}, {.shape = {count}}, {.shape = {count}, .scale = 0.1}};
  c.run = [](const std::vector<Tensor>& in, bool gradients) {
    const auto target = [gradients](const Tensor& t) { return gradients ? t.clone() : t; };
    const auto scalars = ops::make_optimizer_scalars(in[0].device());
    ops::set_optimizer_scalars(scalars, 1e-2f, 0.5f, 3);
    ops::LionState state{target(in[0]), Tensor::empty(in[0].shape(), DType::bf16, in[0].device()), in[1],
                         target(in[2])};
    ops::lion_step(state, {.beta1 = 0.9f, .beta2 = 0.99f, .weight_decay = 0.1f, .rate_scale = 2.0f}, scalars);
    return OpResult{{state.param, state.exp_avg, state.low_precision}, {}};
  };
  set_reference(c, []<class T>(const std::vector<Array<T>>& in, Round) {
    Array<T> p = in[0], m = in[2];
    for (int64_t i = 0; i < p.numel(); ++i) {
      const T g = in[1][i] * T(0.5), direction = T(0.9f) * m[i] + (T(1) - T(0.9f)) * g;
      p[i] -= T(2e-2) * ((direction > T(0)) - (direction < T(0)) + T(0.1f) * p[i]);
      m[i] = T(0.99f) * m[i] + (T(1) - T(0.99f)) * g;
    }
    return std::vector<Array<T>>{p, m, p};
  });
  cases.push_back(std::move(c));
}

/// You et al. 2020, algorithm 2.
void add_lamb(std::vector<OpCase>& cases, const Shape& shape, int64_t step) {
  OpCase c;
  c.op = "lamb";
  c.name = concat("lamb ", shape, " step ", step);
  c.inputs = {{.shape = shape},
              {.shape = shape},
              {.shape = shape, .scale = 0.1},
              {.shape = shape, .fill = Fill::positive, .scale = 0.01}};
  c.run = [step](const std::vector<Tensor>& in, bool gradients) {
    const auto target = [gradients](const Tensor& t) { return gradients ? t.clone() : t; };
    const auto scalars = ops::make_optimizer_scalars(in[0].device());
    ops::set_optimizer_scalars(scalars, 1e-2f, 0.5f, step);
    ops::AdamwState state{target(in[0]), Tensor::empty(in[0].shape(), DType::bf16, in[0].device()), in[1],
                          target(in[2]), target(in[3])};
    ops::lamb_step(state, {.eps = 1e-6f, .weight_decay = 0.1f, .rate_scale = 0.5f}, scalars);
    return OpResult{{state.param, state.exp_avg, state.exp_avg_sq, state.low_precision}, {}};
  };
  set_reference(c, [step]<class T>(const std::vector<Array<T>>& in, Round) {
    Array<T> p = in[0], m = in[2], v = in[3], u(in[0].shape);
    double weight = 0, update = 0;
    for (int64_t i = 0; i < p.numel(); ++i) {
      const T g = in[1][i] * T(0.5);
      m[i] = T(0.9f) * m[i] + (T(1) - T(0.9f)) * g;
      v[i] = T(0.999f) * v[i] + (T(1) - T(0.999f)) * g * g;
      const T corrected_m = m[i] / static_cast<T>(1 - std::pow(static_cast<double>(0.9f), step));
      const T corrected_v = v[i] / static_cast<T>(1 - std::pow(static_cast<double>(0.999f), step));
      u[i] = corrected_m / (std::sqrt(corrected_v) + T(1e-6f)) + T(0.1f) * p[i];
      weight += static_cast<double>(p[i] * p[i]);
      update += static_cast<double>(u[i] * u[i]);
    }
    const T ratio = weight > 0 && update > 0 ? static_cast<T>(std::sqrt(weight / update)) : T(1);
    for (int64_t i = 0; i < p.numel(); ++i) p[i] -= T(0.5e-2) * ratio * u[i];
    return std::vector<Array<T>>{p, m, v, p};
  });
  cases.push_back(std::move(c));
}

/// Shazeer & Stern 2018, algorithms 4 and 5, with the order of operations of transformers.Adafactor.
void add_adafactor(std::vector<OpCase>& cases, const Shape& shape, int64_t step, bool relative) {
  OpCase c;
  c.op = "adafactor";
  c.name = concat("adafactor ", shape, " step ", step, relative ? " relative" : "");
  const bool matrix = shape.ndim() == 2;
  const int64_t rows = matrix ? shape[0] : 1, cols = matrix ? shape[1] : shape[0];
  c.inputs = {{.shape = shape},
              {.shape = shape},
              {.shape = {matrix ? rows : cols}, .fill = Fill::positive},
              {.shape = {cols}, .fill = Fill::positive},
              {.shape = shape, .scale = 0.1}};
  c.run = [=](const std::vector<Tensor>& in, bool gradients) {
    const auto target = [gradients](const Tensor& t) { return gradients ? t.clone() : t; };
    const auto scalars = ops::make_optimizer_scalars(in[0].device());
    ops::set_optimizer_scalars(scalars, 1e-2f, 0.5f, step);
    ops::AdafactorState state{
        target(in[0]), Tensor::empty(in[0].shape(), DType::bf16, in[0].device()), in[1], target(in[2]), {}, {}};
    if (matrix) state.column = target(in[3]);
    if (relative) state.exp_avg = target(in[4]);
    ops::AdafactorOptions options{.weight_decay = 0.1f, .rate_scale = 2.0f};
    options.relative_step = options.scale_parameter = options.warmup_init = relative;
    options.beta1 = relative ? 0.9f : 0.0f;
    ops::adafactor_step(state, options, scalars);
    OpResult r{{state.param, state.row, state.low_precision}, {}};
    if (matrix) r.outputs.push_back(state.column);
    if (relative) r.outputs.push_back(state.exp_avg);
    return r;
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
    Array<T> p = in[0], row = in[2], column = in[3], m = in[4], u(in[0].shape);
    const T fresh = static_cast<T>(std::pow(static_cast<double>(step), -0.8)), keep = T(1) - fresh;
    T mean_row = T(0), weight = T(0), update = T(0);
    const auto g = [&](int64_t i) { return in[1][i] * T(0.5); };
    const auto square = [&](int64_t i) { return g(i) * g(i) + T(1e-30); };
    if (matrix) {
      for (int64_t r = 0; r < rows; ++r) {
        T sum = T(0);
        for (int64_t i = 0; i < cols; ++i) sum += square(r * cols + i);
        row[r] = keep * row[r] + fresh * sum / static_cast<T>(cols);
        mean_row += row[r] / static_cast<T>(rows);
      }
      for (int64_t i = 0; i < cols; ++i) {
        T sum = T(0);
        for (int64_t r = 0; r < rows; ++r) sum += square(r * cols + i);
        column[i] = keep * column[i] + fresh * sum / static_cast<T>(rows);
      }
    } else {
      for (int64_t i = 0; i < cols; ++i) row[i] = keep * row[i] + fresh * square(i);
    }
    for (int64_t i = 0; i < p.numel(); ++i) {
      u[i] = g(i) / (matrix ? std::sqrt(row[i / cols] / mean_row) * std::sqrt(column[i % cols]) : std::sqrt(row[i]));
      weight += p[i] * p[i];
      update += u[i] * u[i];
    }
    const T count = static_cast<T>(p.numel());
    T rate = relative
                 ? static_cast<T>(std::min(1e-6 * static_cast<double>(step), 1 / std::sqrt(static_cast<double>(step))))
                 : T(1e-2f);
    rate *= T(2);
    if (relative) rate *= std::max(T(1e-3f), std::sqrt(weight / count));
    const T clip = std::max(T(1), std::sqrt(update / count));
    for (int64_t i = 0; i < p.numel(); ++i) {
      T change = rate * u[i] / clip;
      if (relative) change = m[i] = T(0.9f) * m[i] + (T(1) - T(0.9f)) * change;
      p[i] -= T(0.1f) * rate * p[i];
      p[i] -= change;
    }
    std::vector<Array<T>> out = {p, row, p};
    if (matrix) out.push_back(column);
    if (relative) out.push_back(m);
    return out;
  });
  cases.push_back(std::move(c));
}

void add_optimizer(std::vector<OpCase>& cases, bool large) {
  for (const int64_t count : {1, 7, 1025, 33333}) add_lion(cases, count);
  for (const Shape& shape :
       {Shape{1}, Shape{37}, Shape{5000}, Shape{1, 9}, Shape{33, 65}, Shape{300, 7}, Shape{3, 1029}}) {
    for (const int64_t step : {int64_t{1}, int64_t{1000}}) {
      add_lamb(cases, shape, step);
      for (const bool relative : {false, true}) add_adafactor(cases, shape, step, relative);
    }
  }
  std::vector<int64_t> counts = {1, 3, 7, 16, 100, 1023, 1025, 33333};
  if (large) counts = {4 << 20};
  for (const int64_t count : counts) {
    for (const bool low_precision : {false, true}) {
      for (const int64_t step : {int64_t{1}, int64_t{1000}}) {
        OpCase c;
        c.op = "adamw";
        c.name = concat("adamw ", count, low_precision ? " with bf16 copy" : "", " step ", step);
        c.inputs = {{.shape = {count}},
                    {.shape = {count}},
                    {.shape = {count}, .scale = 0.1},
                    {.shape = {count}, .fill = Fill::positive, .scale = 0.01}};
        c.run = [low_precision, step](const std::vector<Tensor>& in, bool gradients) {
          const auto target = [gradients](const Tensor& t) { return gradients ? t.clone() : t; };
          const auto scalars = ops::make_optimizer_scalars(in[0].device());
          ops::set_optimizer_scalars(scalars, 1e-2f, 0.5f, step);
          ops::AdamwState state{target(in[0]), {}, in[1], target(in[2]), target(in[3])};
          if (low_precision) state.low_precision = Tensor::empty(in[0].shape(), DType::bf16, in[0].device());
          ops::adamw_step(state, {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f}, scalars);
          OpResult r{{state.param, state.exp_avg, state.exp_avg_sq}, {}};
          if (low_precision) r.outputs.push_back(state.low_precision);
          return r;
        };
        set_reference(c, [low_precision, step]<class T>(const std::vector<Array<T>>& in, Round) {
          Array<T> p = in[0], m = in[2], v = in[3];
          const T lr = T(1e-2f), b1 = T(0.9f), b2 = T(0.95f), decay = T(0.1f), eps = T(1e-8f);
          for (int64_t i = 0; i < p.numel(); ++i) {
            const T g = in[1][i] * T(0.5);
            p[i] -= lr * decay * p[i];
            m[i] = b1 * m[i] + (T(1) - b1) * g;
            v[i] = b2 * v[i] + (T(1) - b2) * g * g;
            const T corrected_m = m[i] / static_cast<T>(1.0 - std::pow(static_cast<double>(b1), step));
            const T corrected_v = v[i] / static_cast<T>(1.0 - std::pow(static_cast<double>(b2), step));
            p[i] -= lr * corrected_m / (std::sqrt(corrected_v) + eps);
          }
          std::vector<Array<T>> out = {p, m, v};
          if (low_precision) out.push_back(p);
          return out;
        });
        cases.push_back(std::move(c));
      }
      for (const float momentum : {0.0f, 0.9f}) {
        for (const bool nesterov : {false, true}) {
          if (nesterov && momentum == 0.0f) continue;
          OpCase c;
          c.op = "sgd";
          c.name = concat("sgd ", count, low_precision ? " with bf16 copy" : "", " momentum ", momentum,
                          nesterov ? " nesterov" : "");
          c.inputs = {{.shape = {count}}, {.shape = {count}}, {.shape = {count}}};
          c.run = [=](const std::vector<Tensor>& in, bool gradients) {
            const auto target = [gradients](const Tensor& t) { return gradients ? t.clone() : t; };
            const auto scalars = ops::make_optimizer_scalars(in[0].device());
            ops::set_optimizer_scalars(scalars, 0.1f, 2.0f, 3);
            ops::SgdState state{target(in[0]), {}, in[1], {}};
            if (momentum != 0.0f) state.momentum_buffer = target(in[2]);
            if (low_precision) state.low_precision = Tensor::empty(in[0].shape(), DType::bf16, in[0].device());
            ops::sgd_step(state, {.momentum = momentum, .weight_decay = 0.01f, .nesterov = nesterov}, scalars);
            OpResult r{{state.param}, {}};
            if (momentum != 0.0f) r.outputs.push_back(state.momentum_buffer);
            if (low_precision) r.outputs.push_back(state.low_precision);
            return r;
          };
          set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round) {
            Array<T> p = in[0], buffer = in[2];
            const T mu = static_cast<T>(momentum);
            for (int64_t i = 0; i < p.numel(); ++i) {
              T g = T(2) * in[1][i] + T(0.01f) * p[i];
              if (momentum != 0.0f) {
                buffer[i] = mu * buffer[i] + g;
                g = nesterov ? g + mu * buffer[i] : buffer[i];
              }
              p[i] -= T(0.1f) * g;
            }
            std::vector<Array<T>> out = {p};
            if (momentum != 0.0f) out.push_back(buffer);
            if (low_precision) out.push_back(p);
            return out;
          });
          cases.push_back(std::move(c));
        }
      }
    }
    OpCase average;
    average.op = "ema";
    average.name = concat("ema ", count);
    average.inputs = {{.shape = {count}}, {.shape = {count}}};
    average.run = [](const std::vector<Tensor>& in, bool) {
      const Tensor out = in[0].clone();
      ops::ema_step(out, in[1], 0.999);
      return OpResult{{out}, {}};
    };
    set_reference(average, []<class T>(const std::vector<Array<T>>& in, Round) {
      Array<T> out(in[0].shape);
      for (int64_t i = 0; i < out.numel(); ++i) out[i] = T(0.999) * in[0][i] + T(1 - 0.999) * in[1][i];
      return std::vector<Array<T>>{out};
    });
    cases.push_back(std::move(average));
    OpCase c;
    c.op = "sum_squares";
    c.name = concat("sum_squares ", count);
    c.inputs = {{.shape = {count}}};
    c.run = [](const std::vector<Tensor>& in, bool) { return OpResult{{ops::sum_squares(in[0])}, {}}; };
    set_reference(c, []<class T>(const std::vector<Array<T>>& in, Round) {
      Array<T> out(Shape{});
      for (const T x : in[0].values) out[0] += x * x;
      return std::vector<Array<T>>{out};
    });
    cases.push_back(std::move(c));
    OpCase blocks;
    blocks.op = "block_squares";
    blocks.name = concat("block_squares ", count);
    blocks.inputs = {{.shape = {count}}};
    blocks.run = [](const std::vector<Tensor>& in, bool) {
      const Tensor out = Tensor::empty({ops::squares_blocks(in[0].numel())}, DType::f64, in[0].device());
      ops::block_squares(out, in[0]);
      return OpResult{{out}, {}};
    };
    set_reference(blocks, []<class T>(const std::vector<Array<T>>& in, Round) {
      Array<T> out(Shape{ops::squares_blocks(in[0].numel())});
      for (int64_t i = 0; i < in[0].numel(); ++i) out[i / 256] += in[0][i] * in[0][i];
      return std::vector<Array<T>>{out};
    });
    cases.push_back(std::move(blocks));
  }
}

}  // namespace

void add_index_cases(std::vector<OpCase>& cases, bool large) {
  add_embedding(cases, large);
  add_gather(cases, large);
  if (!large) add_concat(cases);
}

void add_rope_cases(std::vector<OpCase>& cases, bool large) {
  for (const DType dtype : kDataTypes) {
    if (large) {
      const RopeConfig config{.head_dim = 64, .max_positions = 1024};
      cases.push_back(rope_case(dtype, {8, 256, 12, 64}, Layout::contiguous, config, false, false, 0, false, false));
      continue;
    }
    for (const bool interleaved : {false, true}) {
      for (const bool inverse : {false, true}) {
        for (const bool positions : {false, true}) {
          for (const bool in_place : {false, true}) {
            const auto add = [&](const Shape& shape, Layout layout, const RopeConfig& config, int64_t offset) {
              cases.push_back(
                  rope_case(dtype, shape, layout, config, interleaved, inverse, offset, positions, in_place));
            };
            add({1, 1, 1, 2}, Layout::contiguous, {.head_dim = 2, .max_positions = 4}, 0);
            add({2, 5, 3, 8}, Layout::contiguous, {.head_dim = 8, .max_positions = 16}, 4);
            add({2, 3, 2, 64}, Layout::sliced, {.head_dim = 64, .theta = 500000, .max_positions = 64}, 0);
            add({1, 4, 2, 80}, Layout::contiguous, {.head_dim = 80, .rotary_dim = 20, .max_positions = 8}, 1);
            add({2, 0, 2, 8}, Layout::contiguous, {.head_dim = 8, .max_positions = 8}, 0);
            add({1, 6, 1, 32}, Layout::contiguous, {.head_dim = 32, .type = "linear", .factor = 4, .max_positions = 32},
                20);
            add({1, 6, 2, 48}, Layout::contiguous,
                {.head_dim = 48,
                 .theta = 500000,
                 .type = "llama3",
                 .factor = 8,
                 .low_freq_factor = 1,
                 .high_freq_factor = 4,
                 .original_max_positions = 256,
                 .max_positions = 512},
                500);
            add({1, 3, 2, 16}, Layout::shifted, {.head_dim = 16, .max_positions = 8}, 2);
            add({2, 1, 5, 128}, Layout::contiguous, {.head_dim = 128, .max_positions = 64}, 63);
            add({1, 2, 3, 256}, Layout::contiguous, {.head_dim = 256, .rotary_dim = 64, .max_positions = 8}, 0);
            add({3, 9, 1, 6}, Layout::contiguous, {.head_dim = 6, .max_positions = 16}, 7);
          }
        }
      }
    }
  }
}

void add_optimizer_cases(std::vector<OpCase>& cases, bool large) { add_optimizer(cases, large); }

}  // namespace ondol::testing
