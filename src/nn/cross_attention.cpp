#include <ondol/nn/cross_attention.h>

namespace ondol {

Variable cross_attention(const Variable& q, const Variable& kv, const SelfAttentionSettings& settings,
                         const CrossAttentionInput& input) {
  functions::PackedAttention packed;
  packed.num_heads = settings.num_heads;
  packed.num_kv_heads = settings.num_kv_heads;
  packed.head_dim = settings.head_dim;
  packed.options.scale = settings.scale;
  packed.options.softcap = settings.softcap;
  packed.options.key_mask = input.key_mask;
  packed.options.dropout_p = settings.dropout_p;
  packed.options.rng = input.rng;
  packed.options.first_head = settings.first_head;
  packed.options.all_heads = settings.all_heads;
  return functions::packed_cross_attention(q, kv, packed);
}

Variable cross_attention(const Variable& q, int64_t layer, const SelfAttentionSettings& settings,
                         const KvCache& cache) {
  const CrossKeyValues& source = cache.source();
  ONDOL_CHECK(layer >= 0 && layer < static_cast<int64_t>(source.layers.size()), "[cross_attention] no layer ", layer,
              " of ", source.layers.size());
  const Tensor& kv = source.layers[static_cast<size_t>(layer)];
  const int64_t sources = kv.size(0), length = kv.size(1), kv_heads = settings.num_kv_heads;
  ONDOL_CHECK(q.shape()[0] % sources == 0, "[cross_attention] ", q.shape()[0], " rows for ", sources, " sources");
  const Tensor split = kv.reshape({sources, length, 2 * kv_heads, settings.head_dim});
  AttentionOptions options;
  options.scale = settings.scale;
  options.softcap = settings.softcap;
  options.kv_lengths = source.lengths;
  const int64_t queries = q.shape()[0] / sources * q.shape()[1];  // those of all rows of a source
  const ops::AttentionResult result =
      ops::attention(q.value().reshape({sources, queries, settings.num_heads, settings.head_dim}),
                     split.narrow(2, 0, kv_heads), split.narrow(2, kv_heads, kv_heads), options, /*need_lse=*/false);
  return Variable(result.out.reshape(q.shape()));
}

}  // namespace ondol
