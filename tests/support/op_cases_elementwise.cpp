// Cases of elementwise.h, glu.h and dropout.h.
#include <ondol/ops/dropout.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/glu.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

struct NamedActivation {
  const char* name;
  Activation kind;
};
constexpr NamedActivation kActivations[] = {{"relu", Activation::relu},           {"gelu_erf", Activation::gelu_erf},
                                            {"gelu_tanh", Activation::gelu_tanh}, {"silu", Activation::silu},
                                            {"tanh", Activation::tanh},           {"sigmoid", Activation::sigmoid}};

struct ShapedLayout {
  Shape shape;
  Layout layout;
};

std::vector<ShapedLayout> flat_shapes(bool large) {
  if (large) return {{{2048, 1024}, Layout::contiguous}};
  return {{{}, Layout::contiguous},
          {{1}, Layout::contiguous},
          {{0, 3}, Layout::contiguous},
          {{7}, Layout::contiguous},
          {{2, 3, 5}, Layout::contiguous},
          {{16, 16}, Layout::contiguous},
          {{3, 65}, Layout::contiguous},
          {{5, 9}, Layout::transposed},
          {{2, 6, 17}, Layout::sliced},
          {{301, 97}, Layout::contiguous},
          // Around whole vectors, warps and blocks.
          {{8}, Layout::contiguous},
          {{63}, Layout::contiguous},
          {{65}, Layout::contiguous},
          {{127}, Layout::contiguous},
          {{129}, Layout::contiguous},
          {{1023}, Layout::contiguous},
          {{1024}, Layout::contiguous},
          {{1025}, Layout::contiguous},
          {{2049}, Layout::contiguous},
          {{3, 64}, Layout::shifted},
          {{129}, Layout::shifted},
          {{33, 65}, Layout::transposed},
          {{4, 127}, Layout::sliced},
          {{2, 3, 1, 4, 5}, Layout::contiguous}};
}

void add_unary(std::vector<OpCase>& cases, const char* op, bool large, Fill fill, Tensor (*call)(const Tensor&),
               double (*exact)(double), float (*naive)(float)) {
  for (const DType dtype : kDataTypes) {
    for (const auto& [shape, layout] : flat_shapes(large)) {
      OpCase c;
      c.op = op;
      c.name = concat(op, " ", dtype_name(dtype), " ", shape, layout_name(layout));
      c.dtype = dtype;
      c.inputs = {{.shape = shape, .dtype = dtype, .fill = fill, .layout = layout}};
      c.run = [call](const std::vector<Tensor>& in, bool) { return OpResult{{call(in[0])}, {}}; };
      c.oracle = [exact](const std::vector<Array<double>>& in) {
        return std::vector<Array<double>>{reference::map(in[0], exact)};
      };
      c.naive = [naive](const std::vector<Array<float>>& in) {
        return std::vector<Array<float>>{reference::map(in[0], naive)};
      };
      cases.push_back(std::move(c));
    }
  }
}

void add_activation(std::vector<OpCase>& cases, const NamedActivation& act, bool large) {
  for (const DType dtype : kDataTypes) {
    for (const auto& [shape, layout] : flat_shapes(large)) {
      OpCase c;
      c.op = concat("activation_", act.name);
      c.name = concat(c.op, " ", dtype_name(dtype), " ", shape, layout_name(layout));
      c.dtype = dtype;
      c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true, .scale = 2.0}};
      const Activation kind = act.kind;
      c.run = [kind](const std::vector<Tensor>& in, bool) {
        return OpResult{{ops::activation(in[0], kind)}, [in, kind](const std::vector<Tensor>& grads) {
                          return std::vector<Tensor>{ops::activation_backward(grads[0], in[0], kind)};
                        }};
      };
      set_reference(c, [kind]<class T>(const std::vector<Array<T>>& in, Round) {
        return std::vector<Array<T>>{reference::map(in[0], [kind](T x) { return reference::activation(x, kind); })};
      });
      c.grad_outputs = 1;
      cases.push_back(std::move(c));
    }
  }
}

/// act(x + bias) with the backward that gives both gradients in one pass.
void add_biased_activation(std::vector<OpCase>& cases, const NamedActivation& act, bool large) {
  std::vector<Shape> shapes = {{1}, {1, 1}, {0, 4}, {3, 0}, {2, 3, 19}, {67, 33}, {301, 97}, {3, 2100}};
  if (large) shapes = {{2048, 1536}};
  for (const DType dtype : kDataTypes) {
    for (const Shape& shape : shapes) {
      for (const bool accumulate : {false, true}) {
        OpCase c;
        c.op = concat("activation_", act.name);
        c.name = concat(c.op, " ", dtype_name(dtype), " ", shape, accumulate ? " bias accumulate" : " bias");
        c.dtype = dtype;
        c.inputs = {{.shape = shape, .dtype = dtype, .differentiable = true},
                    {.shape = {shape[-1]}, .dtype = dtype, .differentiable = true}};
        const Activation kind = act.kind;
        c.run = [kind, accumulate](const std::vector<Tensor>& in, bool) {
          const Tensor sum = ops::add(in[0], in[1]);
          return OpResult{
              {ops::activation(sum, kind)}, [=](const std::vector<Tensor>& grads) {
                const Tensor grad = sum.clone();
                const float before = accumulate ? 2.0f : std::nanf("");
                const Tensor grad_bias = Tensor::full(in[1].shape(), before, DType::f32, sum.device());
                ops::activation_backward_in_place(grad, grads[0], kind, grad_bias, accumulate);
                return std::vector<Tensor>{grad, accumulate ? ops::add_scalar(grad_bias, -before) : grad_bias};
              }};
        };
        set_reference(c, [kind]<class T>(const std::vector<Array<T>>& in, Round round) {
          Array<T> out(in[0].shape);
          for (int64_t i = 0; i < out.numel(); ++i) {
            out[i] = reference::activation(round(in[0][i] + in[1][i % in[1].numel()]), kind);
          }
          return std::vector<Array<T>>{out};
        });
        c.grad_outputs = 1;
        cases.push_back(std::move(c));
      }
    }
  }
}

struct BinaryShapes {
  Shape a, b, out;
  Layout layout_a = Layout::contiguous, layout_b = Layout::contiguous;
};

enum class Arithmetic { add, sub, mul, div };

template <class T>
T apply(Arithmetic kind, T a, T b) {
  switch (kind) {
    case Arithmetic::add:
      return a + b;
    case Arithmetic::sub:
      return a - b;
    case Arithmetic::mul:
      return a * b;
    case Arithmetic::div:
      return a / b;
  }
  return a;
}

Tensor call_binary(Arithmetic kind, const Tensor& a, const Tensor& b) {
  switch (kind) {
    case Arithmetic::add:
      return ops::add(a, b);
    case Arithmetic::sub:
      return ops::sub(a, b);
    case Arithmetic::mul:
      return ops::mul(a, b);
    case Arithmetic::div:
      return ops::div(a, b);
  }
  return {};
}

void add_binary(std::vector<OpCase>& cases, bool large) {
  std::vector<BinaryShapes> shapes = {{{}, {}, {}},
                                      {{1}, {1}, {1}},
                                      {{5}, {5}, {5}},
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
                                      {{120, 300}, {300}, {120, 300}},
                                      {{33000}, {33000}, {33000}},
                                      {{1025}, {1025}, {1025}},
                                      {{64}, {3, 64}, {3, 64}, Layout::shifted},
                                      {{7, 129}, {7, 129}, {7, 129}, Layout::shifted, Layout::shifted},
                                      {{2, 3, 1, 4, 5}, {3, 2, 1, 5}, {2, 3, 2, 4, 5}},
                                      {{65, 1}, {1, 63}, {65, 63}}};
  if (large) shapes = {{{2048, 1024}, {2048, 1024}, {2048, 1024}}, {{2048, 1024}, {2048}, {2048, 1024}}};
  constexpr const char* kNames[] = {"add", "sub", "mul", "div"};
  for (const Arithmetic kind : {Arithmetic::add, Arithmetic::sub, Arithmetic::mul, Arithmetic::div}) {
    for (const DType dtype : kDataTypes) {
      for (const BinaryShapes& s : shapes) {
        OpCase c;
        c.op = kNames[static_cast<int>(kind)];
        c.name =
            concat(c.op, " ", dtype_name(dtype), " ", s.a, layout_name(s.layout_a), " ", s.b, layout_name(s.layout_b));
        c.dtype = dtype;
        c.inputs = {{.shape = s.a, .dtype = dtype, .layout = s.layout_a},
                    {.shape = s.b,
                     .dtype = dtype,
                     .fill = kind == Arithmetic::div ? Fill::positive : Fill::normal,
                     .layout = s.layout_b}};
        c.run = [kind](const std::vector<Tensor>& in, bool) { return OpResult{{call_binary(kind, in[0], in[1])}, {}}; };
        const Shape out = s.out;
        set_reference(c, [kind, out]<class T>(const std::vector<Array<T>>& in, Round) {
          return std::vector<Array<T>>{
              reference::binary(in[0], in[1], out, [kind](T a, T b) { return apply(kind, a, b); })};
        });
        cases.push_back(std::move(c));
      }
    }
  }
}

void add_in_place(std::vector<OpCase>& cases, bool large) {
  for (const DType dtype : kDataTypes) {
    for (const DType source : kDataTypes) {
      if (source == DType::f32 && dtype == DType::bf16) continue;  // targets are only widened
      for (const auto& [shape, layout] : flat_shapes(large)) {
        OpCase c;
        c.op = "accumulate";
        c.name = concat("accumulate ", dtype_name(dtype), " += ", dtype_name(source), " ", shape, layout_name(layout));
        c.dtype = dtype;
        c.inputs = {{.shape = shape, .dtype = dtype}, {.shape = shape, .dtype = source, .layout = layout}};
        c.run = [](const std::vector<Tensor>& in, bool gradients) {
          const Tensor target = gradients ? in[0].clone() : in[0];
          ops::accumulate(target, in[1]);
          return OpResult{{target}, {}};
        };
        set_reference(c, []<class T>(const std::vector<Array<T>>& in, Round) {
          return std::vector<Array<T>>{reference::binary(in[0], in[1], in[0].shape, [](T a, T b) { return a + b; })};
        });
        cases.push_back(std::move(c));
      }
    }
  }
}

void add_sum_to_shape(std::vector<OpCase>& cases) {
  struct Shapes {
    Shape from, to;
  };
  const Shapes shapes[] = {{{5}, {5}},
                           {{4, 7}, {7}},
                           {{4, 7}, {4, 1}},
                           {{2, 3, 5}, {}},
                           {{2, 3, 5}, {3, 1}},
                           {{2, 3, 4, 5}, {3, 1, 5}},
                           {{2, 3, 4, 5}, {2, 1, 4, 1}},
                           {{0, 4}, {4}},
                           {{300, 130}, {130}},
                           {{2, 1, 6}, {1, 1, 6}}};
  for (const DType dtype : kDataTypes) {
    for (const auto& [from, to] : shapes) {
      OpCase c;
      c.op = "sum_to_shape";
      c.name = concat("sum_to_shape ", dtype_name(dtype), " ", from, " to ", to);
      c.dtype = dtype;
      c.inputs = {{.shape = from, .dtype = dtype}};
      const Shape target = to;
      c.run = [target](const std::vector<Tensor>& in, bool) {
        return OpResult{{ops::sum_to_shape(in[0], target)}, {}};
      };
      set_reference(c, [target]<class T>(const std::vector<Array<T>>& in, Round) {
        Array<T> out(target);
        for (int64_t i = 0; i < in[0].numel(); ++i) {
          out[reference::broadcast_offset(target, in[0].shape, i)] += in[0][i];
        }
        return std::vector<Array<T>>{out};
      });
      cases.push_back(std::move(c));
    }
  }
}

void add_glu(std::vector<OpCase>& cases, bool large) {
  std::vector<ShapedLayout> shapes = {
      {{1, 2}, Layout::contiguous},     {{3, 14}, Layout::contiguous},   {{0, 8}, Layout::contiguous},
      {{2, 3, 66}, Layout::contiguous}, {{5, 32}, Layout::sliced},       {{6, 10}, Layout::transposed},
      {{2, 5000}, Layout::contiguous},  {{70, 300}, Layout::contiguous}, {{2, 254}, Layout::contiguous},
      {{2, 256}, Layout::contiguous},   {{3, 258}, Layout::contiguous},  {{4, 128}, Layout::shifted},
      {{1, 4098}, Layout::contiguous},  {{9, 130}, Layout::sliced},      {{130, 6}, Layout::contiguous}};
  if (large) shapes = {{{2048, 4096}, Layout::contiguous}};
  for (const NamedActivation& act : kActivations) {
    if (act.kind == Activation::tanh) continue;
    for (const DType dtype : kDataTypes) {
      for (const auto& [shape, layout] : shapes) {
        OpCase c;
        c.op = concat("glu_", act.name);
        c.name = concat(c.op, " ", dtype_name(dtype), " ", shape, layout_name(layout));
        c.dtype = dtype;
        c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true}};
        const Activation kind = act.kind;
        c.run = [kind](const std::vector<Tensor>& in, bool) {
          return OpResult{{ops::glu(in[0], kind)}, [in, kind](const std::vector<Tensor>& grads) {
                            return std::vector<Tensor>{ops::glu_backward(grads[0], in[0], kind)};
                          }};
        };
        set_reference(c, [kind]<class T>(const std::vector<Array<T>>& in, Round) {
          const int64_t cols = in[0].cols() / 2;
          Shape out_shape = in[0].shape;
          out_shape.set(-1, cols);
          Array<T> out(out_shape);
          for (int64_t i = 0; i < out.numel(); ++i) {
            const int64_t at = i / cols * 2 * cols + i % cols;
            out[i] = reference::activation(in[0][at], kind) * in[0][at + cols];
          }
          return std::vector<Array<T>>{out};
        });
        c.grad_outputs = 1;
        cases.push_back(std::move(c));
      }
    }
  }
}

void add_dropout(std::vector<OpCase>& cases, bool large) {
  for (const float p : {0.1f, 0.5f, 0.9f}) {
    for (const DType dtype : kDataTypes) {
      for (const auto& [shape, layout] : flat_shapes(large)) {
        OpCase c;
        c.op = "dropout";
        c.name = concat("dropout ", p, " ", dtype_name(dtype), " ", shape, layout_name(layout));
        c.dtype = dtype;
        c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true},
                    {.shape = {1}, .dtype = DType::i64, .fill = Fill::given, .given = {77}}};
        const uint64_t seed = 0x123456789abcdefu;
        c.run = [p, seed](const std::vector<Tensor>& in, bool) {
          const RngKey key{seed, 5, in[1]};
          return OpResult{{ops::dropout(in[0], p, key)}, [p, key](const std::vector<Tensor>& grads) {
                            return std::vector<Tensor>{ops::dropout(grads[0], p, key)};
                          }};
        };
        set_reference(c, [p, seed]<class T>(const std::vector<Array<T>>& in, Round) {
          Array<T> out(in[0].shape);
          const PhiloxKey key{seed, 5, 77};
          for (int64_t i = 0; i < out.numel(); ++i) {
            out[i] = reference::keeps(key, i, p) ? in[0][i] / (T(1) - static_cast<T>(p)) : T(0);
          }
          return std::vector<Array<T>>{out};
        });
        c.grad_outputs = 1;
        cases.push_back(std::move(c));
      }
    }
  }
}

/// A tensor that is part of a larger one, whose mask it has: rows of it, columns of it, on and off the bounds of the
/// generator's blocks of four.
void add_dropout_of_parts(std::vector<OpCase>& cases) {
  struct Part {
    Shape shape;
    int64_t first, row_length, row_stride;
  };
  const Part parts[] = {{{5, 24}, 48, 0, 0},    {{5, 24}, 7, 0, 0},
                        {{7, 300}, 4001, 0, 0}, {{3, 5, 8}, 16, 8, 32},
                        {{3, 5, 7}, 14, 7, 21}, {{9, 130}, 130, 130, 260},
                        {{2, 1000}, 2, 10, 40}, {{40, 64}, 64, 64, 256},
                        {{0, 8}, 8, 8, 16},     {{4, 8}, int64_t{1} << 35, 8, int64_t{1} << 33}};
  for (const DType dtype : kDataTypes) {
    for (const Part& part : parts) {
      OpCase c;
      c.op = "dropout_add";
      c.name = concat("dropout_add of a part ", dtype_name(dtype), " ", part.shape, " from ", part.first, ", rows of ",
                      part.row_length, " in ", part.row_stride);
      c.dtype = dtype;
      c.inputs = {{.shape = part.shape, .dtype = dtype, .differentiable = true},
                  {.shape = part.shape, .dtype = dtype, .differentiable = true}};
      constexpr float p = 0.4f;
      c.run = [part](const std::vector<Tensor>& in, bool) {
        const RngKey key{4, 7, {}, part.first, part.row_length, part.row_stride};
        return OpResult{{ops::dropout_add(in[0], in[1], p, key)}, [key](const std::vector<Tensor>& grads) {
                          return std::vector<Tensor>{ops::dropout(grads[0], p, key), grads[0]};
                        }};
      };
      set_reference(c, [part]<class T>(const std::vector<Array<T>>& in, Round round) {
        Array<T> out(in[0].shape);
        for (int64_t i = 0; i < out.numel(); ++i) {
          const int64_t within = part.row_length == 0 ? i : i / part.row_length * part.row_stride + i % part.row_length;
          const bool keeps = reference::keeps({4, 7, 0}, part.first + within, p);
          out[i] = in[1][i] + round(keeps ? in[0][i] / (T(1) - static_cast<T>(p)) : T(0));
        }
        return std::vector<Array<T>>{out};
      });
      c.grad_outputs = 1;
      cases.push_back(std::move(c));
    }
  }
}

/// The reference rounds in between, as a pass of its own would.
void add_dropout_add(std::vector<OpCase>& cases, bool large) {
  for (const float p : {0.0f, 0.3f}) {
    for (const DType dtype : kDataTypes) {
      for (const auto& [shape, layout] : flat_shapes(large)) {
        OpCase c;
        c.op = "dropout_add";
        c.name = concat("dropout_add ", p, " ", dtype_name(dtype), " ", shape, layout_name(layout));
        c.dtype = dtype;
        c.inputs = {{.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true},
                    {.shape = shape, .dtype = dtype, .layout = layout, .differentiable = true},
                    {.shape = {1}, .dtype = DType::i64, .fill = Fill::given, .given = {123}}};
        const uint64_t seed = 0xfedcba987654321u;
        c.run = [p, seed](const std::vector<Tensor>& in, bool) {
          const RngKey key{seed, 6, in[2]};
          return OpResult{{ops::dropout_add(in[0], in[1], p, key)}, [p, key](const std::vector<Tensor>& grads) {
                            return std::vector<Tensor>{ops::dropout(grads[0], p, key), grads[0]};
                          }};
        };
        set_reference(c, [p, seed]<class T>(const std::vector<Array<T>>& in, Round round) {
          Array<T> out(in[0].shape);
          const PhiloxKey key{seed, 6, 123};
          for (int64_t i = 0; i < out.numel(); ++i) {
            const T kept = reference::keeps(key, i, p) ? in[0][i] / (T(1) - static_cast<T>(p)) : T(0);
            out[i] = in[1][i] + round(kept);
          }
          return std::vector<Array<T>>{out};
        });
        c.grad_outputs = 1;
        cases.push_back(std::move(c));
      }
    }
  }
}

}  // namespace

void add_elementwise_cases(std::vector<OpCase>& cases, bool large) {
  add_unary(
      cases, "exp", large, Fill::normal, ops::exp, [](double x) { return std::exp(x); },
      [](float x) { return std::exp(x); });
  add_unary(
      cases, "log", large, Fill::positive, ops::log, [](double x) { return std::log(x); },
      [](float x) { return std::log(x); });
  add_unary(
      cases, "sqrt", large, Fill::positive, ops::sqrt, [](double x) { return std::sqrt(x); },
      [](float x) { return std::sqrt(x); });
  add_unary(
      cases, "square", large, Fill::normal, ops::square, [](double x) { return x * x; }, [](float x) { return x * x; });
  add_unary(
      cases, "scale", large, Fill::normal, [](const Tensor& x) { return ops::scale(x, -1.75f); },
      [](double x) { return x * -1.75; }, [](float x) { return x * -1.75f; });
  add_unary(
      cases, "add_scalar", large, Fill::normal, [](const Tensor& x) { return ops::add_scalar(x, 0.375f); },
      [](double x) { return x + 0.375; }, [](float x) { return x + 0.375f; });
  for (const NamedActivation& act : kActivations) {
    add_activation(cases, act, large);
    add_biased_activation(cases, act, large);
  }
  add_binary(cases, large);
  add_in_place(cases, large);
  if (!large) add_sum_to_shape(cases);
  add_glu(cases, large);
  add_dropout(cases, large);
  add_dropout_add(cases, large);
  if (!large) add_dropout_of_parts(cases);
}

}  // namespace ondol::testing
