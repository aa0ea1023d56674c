// Activations and their derivatives in f32. GELU: Hendrycks & Gimpel 2016 (erf and tanh forms); SiLU: x * sigmoid(x).
#pragma once

#include <cuda_runtime.h>

#include "backend/kernel_args.h"

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr float kSqrtHalf = 0.70710678118654752440f;
inline constexpr float kSqrtTwoOverPi = 0.79788456080286535588f;
inline constexpr float kInverseSqrtTwoPi = 0.39894228040143267794f;
inline constexpr float kGeluCubic = 0.044715f;

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ inline float silu(float x) { return x * sigmoid(x); }
__device__ inline float silu_derivative(float x) {
  const float s = sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

__device__ inline float gelu_erf(float x) { return 0.5f * x * (1.0f + erff(x * kSqrtHalf)); }
__device__ inline float gelu_erf_derivative(float x) {
  return 0.5f * (1.0f + erff(x * kSqrtHalf)) + x * kInverseSqrtTwoPi * expf(-0.5f * x * x);
}

/// x * x, kept finite: beyond it the tanh is saturated anyway, and infinity would give 0 * inf in the derivative.
__device__ inline float bounded_square(float x) { return fminf(x * x, 1e6f); }

__device__ inline float gelu_tanh(float x) {
  const float t = tanhf(kSqrtTwoOverPi * x * (1.0f + kGeluCubic * bounded_square(x)));
  return 0.5f * x * (1.0f + t);
}
__device__ inline float gelu_tanh_derivative(float x) {
  const float square = bounded_square(x);
  const float t = tanhf(kSqrtTwoOverPi * x * (1.0f + kGeluCubic * square));
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kSqrtTwoOverPi * (1.0f + 3.0f * kGeluCubic * square);
}

__device__ inline float sigmoid_derivative(float x) {
  const float s = sigmoid(x);
  return s * (1.0f - s);
}

__device__ inline float relu(float x) { return x > 0.0f || x != x ? x : 0.0f; }
__device__ inline float relu_derivative(float x) { return x > 0.0f ? 1.0f : 0.0f; }

__device__ inline float gemm_activation(GemmEpilogue epilogue, float x) {
  switch (epilogue) {
    case GemmEpilogue::none:
      return x;
    case GemmEpilogue::gelu_tanh:
      return gelu_tanh(x);
    case GemmEpilogue::gelu_erf:
      return gelu_erf(x);
    case GemmEpilogue::relu:
      return relu(x);
    case GemmEpilogue::silu:
      return silu(x);
  }
  return x;
}

__device__ inline float glu_activation(GluKind kind, float x) {
  switch (kind) {
    case GluKind::silu:
      return silu(x);
    case GluKind::gelu_tanh:
      return gelu_tanh(x);
    case GluKind::gelu_erf:
      return gelu_erf(x);
    case GluKind::relu:
      return relu(x);
    case GluKind::sigmoid:
      return sigmoid(x);
  }
  return 0.0f;
}

__device__ inline float glu_derivative(GluKind kind, float x) {
  switch (kind) {
    case GluKind::silu:
      return silu_derivative(x);
    case GluKind::gelu_tanh:
      return gelu_tanh_derivative(x);
    case GluKind::gelu_erf:
      return gelu_erf_derivative(x);
    case GluKind::relu:
      return relu_derivative(x);
    case GluKind::sigmoid:
      return sigmoid_derivative(x);
  }
  return 0.0f;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
