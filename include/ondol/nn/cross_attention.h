// Attention of a decoder on the states of an encoder: queries of one projection, keys and values of another.
//
//   Variable mixed = cross_attention(q, kv, {.num_heads = 8, .num_kv_heads = 8, .head_dim = 64}, {.key_mask = mask});
//   Variable mixed = cross_attention(q, layer, settings, cache);       // while decoding: keys and values of the cache
#pragma once

#include <ondol/autograd/functions.h>
#include <ondol/nn/kv_cache.h>
#include <ondol/nn/self_attention.h>

namespace ondol {

struct CrossAttentionInput {
  Tensor key_mask;  // (B, S) u8, optional: 0 hides a source token
  RngKey rng;       // for dropout
};

/// q (B, T, H D), kv (B, S, 2 Hkv D), keys and values side by side -> (B, T, H D). Of the settings rope, causal and
/// window do not matter here.
Variable cross_attention(const Variable& q, const Variable& kv, const SelfAttentionSettings& settings,
                         const CrossAttentionInput& input);

/// q (rows of the cache, T, H D) on the cache's source. Rows of one source read its keys and values together.
Variable cross_attention(const Variable& q, int64_t layer, const SelfAttentionSettings& settings, const KvCache& cache);

}  // namespace ondol
