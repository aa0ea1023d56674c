// Cases of matmul.h.
#include <ondol/ops/matmul.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

struct Product {
  Shape a, b, out;
  Layout layout_a = Layout::contiguous, layout_b = Layout::contiguous;
};

OpCase product_case(const char* op, DType dtype, const Product& p) {
  OpCase c;
  c.op = op;
  c.name = concat(op, " ", dtype_name(dtype), " ", p.a, layout_name(p.layout_a), " ", p.b, layout_name(p.layout_b));
  c.dtype = dtype;
  c.inputs = {{.shape = p.a, .dtype = dtype, .layout = p.layout_a, .differentiable = true},
              {.shape = p.b, .dtype = dtype, .layout = p.layout_b, .differentiable = true}};
  const Shape out = p.out;
  set_reference(c, [out]<class T>(const std::vector<Array<T>>& in, Round) {
    return std::vector<Array<T>>{reference::matmul(in[0], in[1], out)};
  });
  c.flops = 2.0 * static_cast<double>(out.numel()) * static_cast<double>(p.a[-1]);
  c.grad_outputs = 1;
  return c;
}

void add_matmul(std::vector<OpCase>& cases, bool large) {
  std::vector<Product> products;
  const int64_t sizes[][3] = {{1, 1, 1},
                              {1, 5, 3},
                              {3, 1, 4},
                              {5, 7, 1},
                              {2, 3, 0},
                              {0, 3, 4},
                              {6, 16, 17},
                              {13, 33, 9},
                              {31, 64, 48},
                              {65, 19, 70},
                              {100, 128, 96},
                              {1, 200, 130},
                              // Around whole tiles, and a long sum.
                              {64, 64, 64},
                              {63, 65, 64},
                              {65, 63, 33},
                              {128, 129, 20},
                              {17, 127, 129},
                              {9, 10, 1025}};
  constexpr Layout kLayouts[] = {Layout::contiguous, Layout::transposed, Layout::sliced};
  for (const auto& [m, n, k] : sizes) {
    for (const Layout layout_a : kLayouts) {
      for (const Layout layout_b : kLayouts) products.push_back({{m, k}, {k, n}, {m, n}, layout_a, layout_b});
    }
  }
  const Product batched[] = {{{2, 3, 4}, {2, 4, 5}, {2, 3, 5}},
                             {{3, 5, 6}, {6, 7}, {3, 5, 7}},
                             {{2, 1, 3, 4}, {5, 4, 6}, {2, 5, 3, 6}},
                             {{1, 4, 3}, {6, 3, 2}, {6, 4, 2}},
                             {{5, 2}, {3, 2, 4}, {3, 5, 4}},
                             {{2, 3, 17, 9}, {2, 3, 9, 21}, {2, 3, 17, 21}, Layout::transposed, Layout::transposed},
                             {{2, 3, 8, 16}, {2, 3, 16, 8}, {2, 3, 8, 8}, Layout::sliced, Layout::contiguous},
                             {{0, 3, 4}, {0, 4, 2}, {0, 3, 2}},
                             {{3, 64, 16}, {3, 16, 65}, {3, 64, 65}},
                             {{2, 65, 24}, {24, 64}, {2, 65, 64}, Layout::contiguous, Layout::transposed},
                             {{33, 40}, {40, 24}, {33, 24}, Layout::shifted, Layout::contiguous},
                             {{33, 40}, {40, 24}, {33, 24}, Layout::contiguous, Layout::shifted},
                             {{64, 64}, {64, 64}, {64, 64}, Layout::shifted, Layout::shifted},
                             {{64, 32}, {32, 128}, {64, 128}, Layout::shifted, Layout::transposed},
                             {{2, 16, 64}, {2, 64, 32}, {2, 16, 32}, Layout::transposed, Layout::shifted}};
  products.insert(products.end(), std::begin(batched), std::end(batched));
  if (large) {
    products = {{{2048, 768}, {768, 768}, {2048, 768}},
                {{2048, 768}, {768, 3072}, {2048, 3072}, Layout::contiguous, Layout::transposed},
                {{1, 768}, {768, 3072}, {1, 3072}, Layout::contiguous, Layout::transposed}};
  }
  for (const DType dtype : kDataTypes) {
    for (const Product& p : products) {
      OpCase c = product_case("matmul", dtype, p);
      c.run = [](const std::vector<Tensor>& in, bool) {
        return OpResult{
            {ops::matmul(in[0], in[1])}, [in](const std::vector<Tensor>& grads) {
              const Tensor a = ops::matmul(grads[0], in[1].transpose(-1, -2));
              const Tensor b = ops::matmul(in[0].transpose(-1, -2), grads[0]);
              return std::vector<Tensor>{ops::sum_to_shape(a, in[0].shape()), ops::sum_to_shape(b, in[1].shape())};
            }};
      };
      cases.push_back(std::move(c));
    }
  }
}

/// The batch walks over views such as (B, T, H, D) -> (B, H, T, D), whose leading dimensions do not merge.
void add_permuted_matmul(std::vector<OpCase>& cases) {
  for (const DType dtype : kDataTypes) {
    OpCase c;
    c.op = "matmul";
    c.name = concat("matmul ", dtype_name(dtype), " permuted heads");
    c.dtype = dtype;
    c.inputs = {{.shape = {2, 5, 3, 8}, .dtype = dtype}, {.shape = {2, 6, 3, 8}, .dtype = dtype}};
    c.run = [](const std::vector<Tensor>& in, bool) {
      return OpResult{{ops::matmul(in[0].permute({0, 2, 1, 3}), in[1].permute({0, 2, 3, 1}))}, {}};
    };
    set_reference(c, []<class T>(const std::vector<Array<T>>& in, Round) {
      Array<T> out(Shape{2, 3, 5, 6});
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t h = 0; h < 3; ++h) {
          for (int64_t i = 0; i < 5; ++i) {
            for (int64_t j = 0; j < 6; ++j) {
              T total = 0;
              for (int64_t d = 0; d < 8; ++d) {
                total += in[0][((b * 5 + i) * 3 + h) * 8 + d] * in[1][((b * 6 + j) * 3 + h) * 8 + d];
              }
              out[((b * 3 + h) * 5 + i) * 6 + j] = total;
            }
          }
        }
      }
      return std::vector<Array<T>>{out};
    });
    cases.push_back(std::move(c));
  }
}

void add_matmul_into(std::vector<OpCase>& cases) {
  for (const DType dtype : kDataTypes) {
    for (const bool accumulate : {false, true}) {
      for (const Layout layout : {Layout::contiguous, Layout::transposed}) {
        for (const auto& [m, n, k] :
             {std::array<int64_t, 3>{1, 1, 1}, {7, 18, 33}, {40, 24, 0}, {33, 65, 70}, {64, 64, 64}, {65, 129, 32}}) {
          OpCase c;
          c.op = "matmul_into";
          c.name = concat("matmul_into ", dtype_name(dtype), " ", m, "x", n, "x", k, layout_name(layout),
                          accumulate ? " accumulate" : "");
          c.dtype = dtype;
          c.inputs = {{.shape = {m, k}, .dtype = dtype, .layout = layout},
                      {.shape = {k, n}, .dtype = dtype},
                      {.shape = {m, n}, .layout = Layout::sliced}};
          c.run = [accumulate](const std::vector<Tensor>& in, bool) {
            const Tensor wide = Tensor::zeros({in[2].size(0), in[2].size(1) + 3}, DType::f32, in[2].device());
            const Tensor out = wide.narrow(1, 2, in[2].size(1));
            out.copy_from(in[2]);
            ops::matmul_into(out, in[0], in[1], accumulate);
            return OpResult{{out}, {}};
          };
          set_reference(c, [accumulate]<class T>(const std::vector<Array<T>>& in, Round) {
            Array<T> out = reference::matmul(in[0], in[1], in[2].shape);
            for (int64_t i = 0; accumulate && i < out.numel(); ++i) out[i] += in[2][i];
            return std::vector<Array<T>>{out};
          });
          cases.push_back(std::move(c));
        }
      }
    }
  }
}

struct LinearCase {
  Shape x;
  int64_t out;
  bool bias, residual, transposed_weight;
  std::optional<Activation> activation;
};

OpCase linear_case(DType dtype, const LinearCase& l) {
  constexpr const char* kNames[] = {"relu", "gelu_erf", "gelu_tanh", "silu", "tanh", "sigmoid"};
  OpCase c;
  c.op = "linear";
  c.name = concat("linear ", dtype_name(dtype), " ", l.x, " to ", l.out, l.bias ? " bias" : "",
                  l.residual ? " residual" : "", l.transposed_weight ? " transposed weight " : " ",
                  l.activation ? kNames[static_cast<int>(*l.activation)] : "");
  c.dtype = dtype;
  Shape out_shape = l.x;
  out_shape.set(-1, l.out);
  c.inputs = {{.shape = l.x, .dtype = dtype, .differentiable = true},
              {.shape = {l.out, l.x[-1]},
               .dtype = dtype,
               .layout = l.transposed_weight ? Layout::transposed : Layout::contiguous,
               .differentiable = true,
               .scale = 0.5}};
  const size_t bias_at = c.inputs.size();
  if (l.bias) c.inputs.push_back({.shape = {l.out}, .dtype = dtype});
  const size_t residual_at = c.inputs.size();
  if (l.residual) c.inputs.push_back({.shape = out_shape, .dtype = dtype});
  c.run = [=](const std::vector<Tensor>& in, bool gradients) {
    Tensor before;
    ops::LinearArguments arguments{.weight = in[1], .activation = l.activation};
    if (l.bias) arguments.bias = in[bias_at];
    if (l.residual) arguments.residual = in[residual_at];
    if (gradients && l.activation) arguments.pre_activation = &before;
    const Tensor out = ops::linear(in[0], arguments);
    return OpResult{
        {out}, [=](const std::vector<Tensor>& grads) {
          const Tensor g = l.activation ? ops::activation_backward(grads[0], before, *l.activation) : grads[0];
          // The gradient has the weight's layout; what is there already is added to.
          Tensor grad_weight = l.transposed_weight ? Tensor::full({l.x[-1], l.out}, 1.0).transpose(0, 1)
                                                   : Tensor::full({l.out, l.x[-1]}, 1.0);
          grad_weight = grad_weight.to(in[0].device());
          ops::linear_backward_weight_into(grad_weight, g, in[0], true);
          return std::vector<Tensor>{ops::linear_backward_input(g, in[1]), ops::add_scalar(grad_weight, -1.0f)};
        }};
  };
  set_reference(c, [=]<class T>(const std::vector<Array<T>>& in, Round round) {
    Array<T> out = reference::linear(in[0], in[1], l.bias ? &in[bias_at] : nullptr);
    for (int64_t i = 0; i < out.numel(); ++i) {
      if (l.activation && (*l.activation == Activation::tanh || *l.activation == Activation::sigmoid)) {
        out[i] = round(out[i]);
      }
      if (l.activation) out[i] = reference::activation(out[i], *l.activation);
      if (l.residual) out[i] += in[residual_at][i];
    }
    return std::vector<Array<T>>{out};
  });
  c.grad_outputs = 1;
  c.flops = 2.0 * static_cast<double>(out_shape.numel()) * static_cast<double>(l.x[-1]);
  return c;
}

void add_linear(std::vector<OpCase>& cases, bool large) {
  std::vector<LinearCase> list;
  const std::optional<Activation> activations[] = {std::nullopt,          Activation::relu, Activation::gelu_erf,
                                                   Activation::gelu_tanh, Activation::silu, Activation::tanh};
  for (const auto& activation : activations) {
    for (const bool bias : {false, true}) {
      for (const bool residual : {false, true}) {
        for (const bool transposed : {false, true}) {
          list.push_back({{3, 5}, 7, bias, residual, transposed, activation});
          list.push_back({{2, 9, 33}, 18, bias, residual, transposed, activation});
          list.push_back({{4, 16, 32}, 64, bias, residual, transposed, activation});
          list.push_back({{65, 40}, 63, bias, residual, transposed, activation});
        }
      }
    }
  }
  list.push_back({{1}, 1, true, false, false, std::nullopt});
  list.push_back({{70, 64}, 130, true, true, false, Activation::gelu_tanh});
  list.push_back({{1, 100}, 300, true, false, false, std::nullopt});
  list.push_back({{0, 6}, 4, true, false, false, std::nullopt});
  if (large) {
    list = {{{2048, 384}, 1536, true, false, false, Activation::gelu_tanh},
            {{2048, 1536}, 384, true, true, false, std::nullopt}};
  }
  for (const DType dtype : kDataTypes) {
    for (const LinearCase& l : list) cases.push_back(linear_case(dtype, l));
  }
}

}  // namespace

void add_matmul_cases(std::vector<OpCase>& cases, bool large) {
  add_matmul(cases, large);
  if (!large) {
    add_permuted_matmul(cases);
    add_matmul_into(cases);
  }
  add_linear(cases, large);
}

}  // namespace ondol::testing
