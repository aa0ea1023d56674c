#include <ondol/nn/self_attention.h>

namespace ondol {

namespace {

Variable attend_with_cache(const Tensor& qkv, int64_t layer, const SelfAttentionSettings& settings,
                           const AttentionOptions& base, KvCache& cache) {
  const int64_t batch = qkv.size(0), length = qkv.size(1);
  const int64_t heads = settings.num_heads, kv_heads = settings.num_kv_heads;
  const Tensor split = qkv.reshape({batch, length, heads + 2 * kv_heads, settings.head_dim});
  if (settings.rope != nullptr) {
    ops::rope_in_place(split.narrow(2, 0, heads + kv_heads), *settings.rope, {.positions = &cache.positions()});
  }
  cache.append(layer, split.narrow(2, heads, kv_heads), split.narrow(2, heads + kv_heads, kv_heads));
  AttentionOptions options = base;
  options.causal = base.causal && !(settings.bidirectional_prompt && length > 1);
  options.q_start = cache.query_starts();
  options.kv_lengths = cache.kv_lengths();
  const int64_t reach = cache.reach();
  const ops::AttentionResult result =
      ops::attention(split.narrow(2, 0, heads), cache.keys(layer).narrow(1, 0, reach),
                     cache.values(layer).narrow(1, 0, reach), options, /*need_lse=*/false);
  return Variable(result.out.reshape({batch, length, heads * settings.head_dim}));
}

}  // namespace

Variable self_attention(const Variable& qkv, int64_t layer, const SelfAttentionSettings& settings,
                        const SelfAttentionInput& input, KvCache* cache) {
  AttentionOptions options;
  options.causal = settings.causal;
  options.scale = settings.scale;
  options.softcap = settings.softcap;
  options.window = settings.window;
  options.relative_origin = input.bias.origin;
  if (cache != nullptr && input.bias.values.defined()) options.relative_bias = input.bias.values.value();
  if (cache != nullptr) return attend_with_cache(qkv.value(), layer, settings, options, *cache);

  options.key_mask = input.attention_mask;
  options.documents = input.documents;
  options.prefix_ends = input.prefix_ends;
  options.q_sequences = options.kv_sequences = input.sequences;
  options.dropout_p = settings.dropout_p;
  options.rng = input.rng;
  options.first_head = settings.first_head;
  options.all_heads = settings.all_heads;
  functions::PackedAttention packed;
  packed.num_heads = settings.num_heads;
  packed.num_kv_heads = settings.num_kv_heads;
  packed.head_dim = settings.head_dim;
  packed.rope = settings.rope;
  packed.positions = input.positions;
  packed.options = options;
  return functions::packed_attention(qkv, packed, input.bias.values);
}

}  // namespace ondol
