// Self-attention of a decoder or encoder on a fused query/key/value projection, with or without a cache.
//
//   Variable mixed = self_attention(qkv, layer, {.num_heads = 8, .num_kv_heads = 2, .head_dim = 64, .rope = &table,
//                                                .causal = true}, input_masks, cache);
#pragma once

#include <ondol/autograd/functions.h>
#include <ondol/nn/kv_cache.h>

namespace ondol {

struct SelfAttentionSettings {
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  const RopeTable* rope = nullptr;  // null: no rotation
  bool causal = true;
  bool bidirectional_prompt = false;  // causal, with a cache: steps of several tokens bring a prompt, seen both ways
  float scale = 0.0f;                 // 0: 1 / sqrt(head_dim)
  float softcap = 0.0f;
  int64_t window = 0;
  float dropout_p = 0.0f;                 // of the attention weights, in training
  int64_t first_head = 0, all_heads = 0;  // for dropout, where num_heads are some of a model's heads (AttentionOptions)
};

/// A learned bias by distance (T5): what AttentionOptions takes as relative_bias.
struct RelativeBias {
  Variable values;     // (H, R); undefined: none
  int64_t origin = 0;  // element of distance 0
};

struct SelfAttentionInput {
  Tensor attention_mask;      // (B, T) u8, optional
  Tensor documents;           // (B, T) i32, optional
  Tensor positions;           // (B, T) i32, optional: for the rotation
  RngKey rng;                 // for dropout
  SequenceOffsets sequences;  // unpadded: B is 1, neither mask nor documents
  RelativeBias bias;          // optional
  Tensor prefix_ends;         // (B, T) i32, optional: as in AttentionOptions; not with a cache
};

/// qkv (B, T, (H + 2 Hkv) D) -> (B, T, H D). With a cache the keys and values of the new tokens are appended to its
/// `layer` first, the rotation uses the cache's positions, and nothing is recorded for a backward.
Variable self_attention(const Variable& qkv, int64_t layer, const SelfAttentionSettings& settings,
                        const SelfAttentionInput& input, KvCache* cache);

}  // namespace ondol
