// What the forward and the backward of attention share: which keys a query sees, and the score of a pair.
#pragma once

#include <ondol/base/philox.h>

#include "backend/kernel_args.h"
#include "device/block.cuh"
#include "device/convert.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

/// One sequence as its queries see it.
struct Sequence {
  int64_t b;
  int64_t keys;   // valid ones
  int64_t start;  // key position of query 0

  __device__ Sequence(const AttentionArgs& a, int64_t batch_index) : b(batch_index), keys(a.kv_len) {
    if (a.kv_lengths != nullptr && a.kv_lengths[b] < keys) keys = a.kv_lengths[b];
    start = a.q_start != nullptr ? a.q_start[b] : keys - a.q_len;
  }

  __device__ bool visible(const AttentionArgs& a, int64_t i, int64_t j) const {
    const int64_t position = start + i;
    if (j >= keys || (a.causal && j > position)) return false;
    if (a.window > 0 && (j <= position - a.window || (!a.causal && j >= position + a.window))) return false;
    if (a.key_mask != nullptr && a.key_mask[b * a.kv_len + j] == 0) return false;
    if (a.q_documents == nullptr) return true;
    const int32_t of_key =
        a.kv_documents == nullptr ? a.q_documents[b * a.q_len + j] : a.kv_documents[b * a.kv_len + j];
    return a.q_documents[b * a.q_len + i] == of_key;
  }
};

/// A half-open range of indices.
struct Range {
  int64_t begin, end;
  __device__ void raise(int64_t to) { begin = to > begin ? to : begin; }
  __device__ void lower(int64_t to) { end = to < end ? to : end; }
};

/// Keys outside the range are not visible to query i.
__device__ inline Range key_range(const AttentionArgs& a, const Sequence& sequence, int64_t i) {
  Range range{0, sequence.keys};
  const int64_t position = sequence.start + i;
  if (a.causal) range.lower(position + 1);
  if (a.window > 0) range.raise(position - a.window + 1);
  if (a.window > 0) range.lower(position + a.window);
  return range;
}

/// Queries outside the range do not see key j.
__device__ inline Range query_range(const AttentionArgs& a, const Sequence& sequence, int64_t j) {
  Range range{0, j < sequence.keys ? a.q_len : 0};
  if (a.causal) range.raise(j - sequence.start);
  if (a.window > 0) range.raise(j - a.window + 1 - sequence.start);
  if (a.window > 0) range.lower(j + a.window - sequence.start);
  return range;
}

/// Dot product of a vector in shared memory with one in global memory.
template <class T>
__device__ inline float dot(const float* x, const T* y, int64_t count) {
  float sum = 0.0f;
  for (int64_t d = 0; d < count; ++d) sum += x[d] * to_float(y[d]);
  return sum;
}

struct Score {
  float value;
  float slope;  // of the soft cap
};

/// From the dot product of query and key.
template <class T>
__device__ inline Score score_of(const AttentionArgs& a, float product, int64_t b, int64_t h, int64_t i, int64_t j) {
  Score s{product * a.scale, 1.0f};
  if (a.softcap > 0.0f) {
    const float bent = tanhf(s.value / a.softcap);
    s = {a.softcap * bent, 1.0f - bent * bent};
  }
  if (a.bias != nullptr) {
    s.value += to_float(static_cast<const T*>(
        a.bias)[b * a.bias_stride_b + h * a.bias_stride_h + i * a.bias_stride_q + j * a.bias_stride_k]);
  }
  return s;
}

/// 0 where dropout takes the weight away, else what keeps its expectation.
__device__ inline float dropout_factor(const AttentionArgs& a, int64_t row, int64_t j) {
  if (a.dropout_p <= 0.0f) return 1.0f;
  const PhiloxKey key{a.rng.seed, a.rng.stream, a.rng.step == nullptr ? 0u : static_cast<uint32_t>(*a.rng.step)};
  const bool keep = philox_uniform(key, static_cast<uint64_t>(row * a.kv_len + j)) >= a.dropout_p;
  return keep ? 1.0f / (1.0f - a.dropout_p) : 0.0f;
}

/// A warp copies a vector into shared memory as f32.
template <class T>
__device__ inline void warp_load(float* out, const T* in, int64_t count) {
  for (int64_t d = lane_index(); d < count; d += 32) out[d] = to_float(in[d]);
}

/// Shows every lane of the warp what each of them brings: 32 slots, which may still be in use from the time before.
__device__ inline void warp_share(float* slots, float value) {
  warp_barrier();
  slots[lane_index()] = value;
  warp_barrier();
}

/// Lane l holds the elements l, l + 32, ... of a vector of head_dim elements.
template <int kParts>
struct LaneVector {
  float value[kParts] = {};

  __device__ void scale(float factor) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) value[p] *= factor;
  }
  template <class T>
  __device__ void add(float factor, const T* in, int64_t count) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const int64_t d = lane_index() + 32 * p;
      if (d < count) value[p] += factor * to_float(in[d]);
    }
  }
  template <class T>
  __device__ void store(T* out, int64_t count) const {
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const int64_t d = lane_index() + 32 * p;
      if (d < count) out[d] = from_float<T>(value[p]);
    }
  }
};

}  // namespace ondol::ONDOL_CUDA_SPACE
