// Scaled dot-product attention (Vaswani et al. 2017) with online softmax: memory grows linearly with the length.
//
//   AttentionResult r = ops::attention(q, k, v, {.causal = true});     // (B, T, H, D), (B, T, Hkv, D) x 2
//
// Grouped queries: H is a multiple of Hkv. The last dimension of q, k, v is contiguous, the others may have any strides
// (slices of one fused projection are fine). See AttentionOptions for masks. A query that sees no key gives 0.
#pragma once

#include <ondol/ops/dropout.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

struct AttentionOptions {
  float scale = 0.0f;    // 0: 1 / sqrt(D)
  float softcap = 0.0f;  // > 0: scores become softcap * tanh(score / softcap)
  bool causal = false;
  int64_t window = 0;    // > 0: a query sees itself and the window - 1 keys before it
  Tensor q_start;        // (B) i32: key position of query 0; default: valid keys - q_len
  Tensor kv_lengths;     // (B) i32: number of valid keys; default all
  Tensor key_mask;       // (B, Tk) u8: 0 hides a key
  Tensor documents;      // (B, T) i32, q_len == kv_len: only keys with the query's id are seen
  Tensor bias;           // broadcast to (B, H, Tq, Tk), added to the scaled scores; dtype of q
  float dropout_p = 0.0f;
  RngKey rng;
};

}  // namespace ondol

namespace ondol::ops {

struct AttentionResult {
  Tensor out;  // (B, Tq, H, D) contiguous, dtype of q
  Tensor lse;  // (B, H, Tq) f32; undefined when need_lse was false
};

AttentionResult attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
                          bool need_lse = true);

/// Writes into grad_q, grad_k, grad_v (same shapes as q, k, v; own strides, last dimension contiguous) and, when
/// defined, grad_bias (H, Tq, Tk) f32, summed over the batch.
void attention_backward_into(const Tensor& grad_output, const Tensor& q, const Tensor& k, const Tensor& v,
                             const AttentionResult& forward, const AttentionOptions& options, const Tensor& grad_q,
                             const Tensor& grad_k, const Tensor& grad_v, const Tensor& grad_bias = {});

}  // namespace ondol::ops
