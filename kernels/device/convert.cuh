// Conversions between the element types of tensors and the f32 in which kernels compute.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <ondol/base/dtype.h>

namespace ondol::ONDOL_CUDA_SPACE {

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(bfloat16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }
__device__ inline float to_float(float16 value) { return __half2float(__ushort_as_half(value.bits)); }

/// Rounds to nearest even.
template <class T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline bfloat16 from_float<bfloat16>(float value) {
  bfloat16 out;
  out.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
  return out;
}
template <>
__device__ inline float16 from_float<float16>(float value) {
  float16 out;
  out.bits = __half_as_ushort(__float2half_rn(value));
  return out;
}

/// a * b rounded, never one half of a fused multiply-add.
__device__ inline float rounded_product(float a, float b) { return __fmul_rn(a, b); }

/// The value as it will be read back after being stored as T.
template <class T>
__device__ inline float rounded(float value) {
  return to_float(from_float<T>(value));
}

}  // namespace ondol::ONDOL_CUDA_SPACE
