// Elementwise arithmetic with broadcasting, and activations.
//
//   Tensor y = ops::add(x, bias);                       // (B, T, C) + (C)
//   Tensor a = ops::activation(x, Activation::gelu_tanh);
//   ops::accumulate(total, part);                       // total += part
//
// Both operands have the same dtype, f32 or bf16, of + - * / also f64; arithmetic is f32 (f64 of f64), rounded once.
#pragma once

#include <string>

#include <ondol/tensor/tensor.h>

namespace ondol {

/// erf GELU is the exact form, tanh GELU that of Hendrycks & Gimpel 2016.
enum class Activation { relu, gelu_erf, gelu_tanh, silu, tanh, sigmoid };

/// The names of Hugging Face configs: "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "swish",
/// "tanh", "sigmoid". Throws UsageError.
Activation activation_from_name(const std::string& name);

}  // namespace ondol

namespace ondol::ops {

Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor scale(const Tensor& x, float factor);
Tensor add_scalar(const Tensor& x, float addend);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor square(const Tensor& x);

/// target += source, same shape; target is contiguous. source is converted when target is f32 and source is not.
void accumulate(const Tensor& target, const Tensor& source);

/// target *= factor in place, contiguous.
void scale_in_place(const Tensor& target, float factor);

Tensor activation(const Tensor& x, Activation kind);
/// grad_output * f'(x).
Tensor activation_backward(const Tensor& grad_output, const Tensor& x, Activation kind);
/// The same in place: x (.., C), contiguous, becomes its own gradient. grad_bias (f32, (C)), when defined, (+)= the sum of
/// that gradient over all rows, in the same pass over memory: the bias of x = u w^T + bias.
void activation_backward_in_place(const Tensor& x, const Tensor& grad_output, Activation kind,
                                  const Tensor& grad_bias = {}, bool accumulate = false);

/// Gradient of a broadcast operand: grad_output summed over the dimensions in which `shape` was expanded.
Tensor sum_to_shape(const Tensor& grad_output, const Shape& shape);

}  // namespace ondol::ops
