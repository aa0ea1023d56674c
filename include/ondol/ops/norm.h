// RMSNorm (Zhang & Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last dimension, optionally after adding a
// residual in the same pass.
//
//   NormResult r = ops::rms_norm(x, weight, {.eps = 1e-5f});
//   NormResult s = ops::rms_norm(x, weight, {.eps = 1e-5f, .residual = &stream});   // s.sum = x + stream
//
// x (.., C) f32 or bf16, weight and bias (C) of the same dtype; statistics are f32.
#pragma once

#include <ondol/tensor/tensor.h>

namespace ondol::ops {

struct NormOptions {
  float eps = 1e-5f;
  const Tensor* residual = nullptr;  // same shape as x
  float weight_offset = 0.0f;        // 1 for Gemma: out = norm(x) * (1 + weight)
};

struct NormResult {
  Tensor out;
  Tensor sum;   // x + residual; x itself without a residual
  Tensor mean;  // (rows) f32, LayerNorm only
  Tensor rstd;  // (rows) f32
};

/// weight may be undefined (ones).
NormResult rms_norm(const Tensor& x, const Tensor& weight, const NormOptions& options);
NormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const NormOptions& options);

/// Where the gradients of weight and bias go: f32 (C), added to when accumulate; undefined ones are not computed.
struct NormWeightGradients {
  Tensor weight;
  Tensor bias;
  bool accumulate = false;
};

/// The gradient of the sum (so of x and of the residual). grad_sum, when defined, is the gradient that reaches the sum
/// by other ways and is added. A forward with a mean is a LayerNorm.
Tensor norm_backward(const Tensor& grad_output, const Tensor& grad_sum, const NormResult& forward,
                     const Tensor& weight, float weight_offset, const NormWeightGradients& gradients);

}  // namespace ondol::ops
