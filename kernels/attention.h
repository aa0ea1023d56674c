// What the host code of the attention kernels shares: limits, alignment, and the choice of a kernel by head_dim.
#pragma once

#include "launch.h"

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr int64_t kMaxHeadDim = 256;

inline void check_attention(const char* op, const AttentionArgs& a) {
  ONDOL_CHECK(a.head_dim <= kMaxHeadDim, "[", op, "] head_dim ", a.head_dim, " is greater than ", kMaxHeadDim);
  constexpr int64_t kMaxLength = int64_t{1} << 30;
  ONDOL_CHECK(a.q_len < kMaxLength && a.kv_len < kMaxLength, "[", op, "] ", a.q_len, " queries and ", a.kv_len,
              " keys: too long");
}

/// Rows of one tensor begin at multiples of 16 bytes and consist of whole units of 16.
template <class T, class... Strides>
bool aligned_rows(const AttentionArgs& a, const void* data, Strides... strides) {
  constexpr int64_t kUnit = 16 / static_cast<int64_t>(sizeof(T));
  return a.head_dim % kUnit == 0 && aligned(16, data) && ((strides % kUnit == 0) && ...);
}
template <class T>
bool aligned_queries(const AttentionArgs& a, const void* data) {
  return aligned_rows<T>(a, data, a.q_stride_b, a.q_stride_t, a.q_stride_h);
}
template <class T>
bool aligned_keys(const AttentionArgs& a) {
  return aligned_rows<T>(a, a.k, a.k_stride_b, a.k_stride_t, a.k_stride_h) &&
         aligned_rows<T>(a, a.v, a.v_stride_b, a.v_stride_t, a.v_stride_h);
}
template <class T>
bool aligned_outputs(const AttentionArgs& a, const void* data) {
  return aligned_rows<T>(a, data, a.out_stride_b, a.out_stride_t, a.out_stride_h);
}

/// True when scores are more than scaled products, or weights are dropped.
inline bool needs_extras(const AttentionArgs& a) {
  return a.bias != nullptr || a.softcap > 0.0f || a.dropout_p > 0.0f || !(a.scale > 0.0f);
}

template <int kValue>
struct HeadDim {
  static constexpr int value = kValue;
};

/// call(HeadDim<n>()) with the least n that holds head_dim.
template <class T, class Call>
void with_head_dim(int64_t head_dim, Call call) {
  if (head_dim <= 32) return call(HeadDim<32>());
  if (head_dim <= 64) return call(HeadDim<64>());
  if constexpr (sizeof(T) == 2) {
    if (head_dim <= 96) return call(HeadDim<96>());
  }
  if (head_dim <= 128) return call(HeadDim<128>());
  call(HeadDim<256>());
}

}  // namespace ondol::ONDOL_CUDA_SPACE
