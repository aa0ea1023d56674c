// Matrix products.
//
//   Tensor c = ops::matmul(a, b.transpose(-1, -2));      // batched, broadcast; transposed views are not copied
//   Tensor y = ops::linear(x, {.weight = w, .bias = b});  // (.., in) -> (.., out)
//
// Sums run in f32 in an order that depends on the shapes alone; bf16 results are rounded once.
#pragma once

#include <optional>

#include <ondol/ops/elementwise.h>

namespace ondol::ops {

/// (.., M, K) x (.., K, N) -> (.., M, N); leading dimensions broadcast; one dtype. A last or last-but-one dimension with
/// stride 1 is used in place, other layouts are copied.
Tensor matmul(const Tensor& a, const Tensor& b);

/// out (+)= a b for 2-d operands (views allowed); out is contiguous in its last dimension, the operands' dtype or f32;
/// accumulate needs f32.
void matmul_into(const Tensor& out, const Tensor& a, const Tensor& b, bool accumulate);

struct LinearArguments {
  Tensor weight;                            // (out, in); a transposed view of (in, out) serves as well
  Tensor bias;                              // (out), optional
  std::optional<Activation> activation;     // applied to x w^T + bias (relu, gelu, silu)
  Tensor residual;                          // (.., out), optional, added last
  Tensor* pre_activation = nullptr;         // receives x w^T + bias when there is an activation
};

/// act(x w^T + bias) + residual.
Tensor linear(const Tensor& x, const LinearArguments& arguments);
/// grad_output w: the gradient of x.
Tensor linear_backward_input(const Tensor& grad_output, const Tensor& weight);
/// grad_weight (f32, the layout of weight) (+)= grad_output^T x.
void linear_backward_weight_into(const Tensor& grad_weight, const Tensor& grad_output, const Tensor& x,
                                 bool accumulate);

}  // namespace ondol::ops
