// LLaMA 1, 2, 3, 3.1 (Touvron et al. 2023, Grattafiori et al. 2024; LlamaForCausalLM,
// LlamaForSequenceClassification, LlamaForTokenClassification): RMSNorm before each branch, rotary positions, grouped
// queries, SwiGLU, output tied or not.
//
//   h = embed_tokens[ids]
//   h = h + o_proj(attention(rope(q_proj n), rope(k_proj n), v_proj n)),  n = rms_norm(h)
//   h = h + down_proj(silu(gate_proj n) * up_proj n),                     n = rms_norm(h)     per layer
//   logits = rms_norm(h) lm_head^T
//
// q, k, v and gate, up are one matrix each here and separate tensors in files.
#include <algorithm>
#include <bit>
#include <deque>

#include <ondol/autograd/functions.h>
#include <ondol/nn/self_attention.h>

#include "models/causal_model.h"
#include "models/input.h"
#include "models/rope_config.h"

namespace ondol {

namespace {

struct LlamaConfig {
  int64_t vocab_size, max_positions, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim;
  float norm_eps, initializer_range, attention_dropout;
  bool attention_bias, mlp_bias, tied;
  Activation activation;
  RopeConfig rope;

  explicit LlamaConfig(const JsonReader& c) {
    vocab_size = c.get<int64_t>("vocab_size", 32000, between(1, 1 << 28));
    max_positions = c.get<int64_t>("max_position_embeddings", 2048, between(1, 1 << 28));
    hidden_size = c.get<int64_t>("hidden_size", 4096, between(1, 1 << 20));
    intermediate_size = c.get<int64_t>("intermediate_size", 11008, between(1, 1 << 24));
    num_layers = c.get<int64_t>("num_hidden_layers", 32, between(1, 10000));
    num_heads = c.get<int64_t>("num_attention_heads", 32, between(1, 1 << 16));
    num_kv_heads = c.get<int64_t>("num_key_value_heads", num_heads, between(1, 1 << 16));
    norm_eps = c.get<float>("rms_norm_eps", 1e-6f, above(0.0));
    initializer_range = c.get<float>("initializer_range", 0.02f, at_least(0.0));
    attention_dropout = c.get<float>("attention_dropout", 0.0f, half_open(0.0, 1.0));
    attention_bias = c.get<bool>("attention_bias", false);
    mlp_bias = c.get<bool>("mlp_bias", false);
    tied = c.get<bool>("tie_word_embeddings", false);
    activation = read_activation(c, "hidden_act", "silu");
    if (!c.has("head_dim") && hidden_size % num_heads != 0) {
      c.fail("num_attention_heads", concat(num_heads, " heads do not divide the hidden size ", hidden_size));
    }
    head_dim = c.get<int64_t>("head_dim", hidden_size / num_heads, between(1, 1 << 14));
    if (head_dim % 2 != 0) {
      c.fail(c.has("head_dim") ? "head_dim" : "num_attention_heads",
             concat("heads of ", head_dim, " elements cannot be rotated: the size must be even"));
    }
    if (num_heads % num_kv_heads != 0) {
      c.fail("num_key_value_heads",
             concat(num_kv_heads, " key/value heads do not divide the ", num_heads, " attention heads"));
    }
    rope = read_rope_config(c, head_dim, max_positions);
  }
};

struct LlamaLayer {
  LayerParameters parameters;
  Variable input_norm, post_attention_norm;
  Variable qkv_weight, qkv_bias, o_proj_weight, o_proj_bias;
  Variable gate_up_weight, gate_up_bias, down_proj_weight, down_proj_bias;
};

class Llama final : public CausalModel {
 public:
  explicit Llama(const JsonReader& reader)
      : CausalModel(reader, {"Llama", "LlamaForCausalLM", "score"}), config_values_(reader) {
    const LlamaConfig& c = config_values_;
    info_.vocab_size = c.vocab_size;
    info_.hidden_size = c.hidden_size;
    info_.num_layers = c.num_layers;
    info_.max_positions = c.max_positions;
    info_.rope_theta = c.rope.theta;
    info_.num_kv_heads = c.num_kv_heads;
    info_.head_dim = c.head_dim;
    const int64_t q_size = c.num_heads * c.head_dim, kv_size = c.num_kv_heads * c.head_dim;
    info_.matmul_parameters = c.num_layers * (2 * q_size + 2 * kv_size + 3 * c.intermediate_size) * c.hidden_size;
    write_rope_config(config_, c.rope);

    const Init normal = Init::normal(c.initializer_range);
    embed_tokens_ = add_weight("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, normal);
    for (int64_t l = 0; l < c.num_layers; ++l) layers_.push_back(make_layer(concat("model.layers.", l, "."), normal));
    final_norm_ = add_weight("model.norm.weight", {c.hidden_size}, Init::ones());
    add_head(embed_tokens_, c.tied, normal);
  }

  void change_rotary_positions(double theta, int64_t max_positions) override {
    config_values_.rope.theta = theta;
    config_values_.rope.max_positions = config_values_.max_positions = max_positions;
    info_.rope_theta = theta;
    info_.max_positions = max_positions;
    write_rope_config(config_, config_values_.rope);
    config_["max_position_embeddings"] = max_positions;
  }

  std::string base_prefix() const override { return "model."; }
  bool is_buffer(const std::string& name) const override {
    return name.ends_with(".rotary_emb.inv_freq") || is_other_head(name);
  }
  std::string tied_name(const std::string& name) const override {
    return config_values_.tied && name == "lm_head.weight" ? "model.embed_tokens.weight" : "";
  }

 protected:
  void check_tensor_ranks(int ranks) const override {
    check_shared_out("num_attention_heads", config_values_.num_heads, ranks);
    check_shared_out("num_key_value_heads", config_values_.num_kv_heads, ranks);
    check_shared_out("intermediate_size", config_values_.intermediate_size, ranks);
  }

  Variable own_hidden(const ModelInput& input, const TokenRows& rows, const ForwardContext& context) override {
    const LlamaConfig& c = config_values_;
    const Tensor positions = resolve_positions(input, context, info_);
    const RopeTable& rope = rope_table(input, context);
    Variable h = functions::embedding(embed_tokens_, rows.own(input.input_ids, 0), info_.pad_token_id.value_or(-1));
    keep_hidden_state(context, h);
    for (size_t l = 0; l < layers_.size(); ++l) {
      h = run_as_layer(context, layers_[l].parameters, [=, this, &rope] {
        return run_layer(static_cast<int64_t>(l), h, input, positions, rope, rows, context);
      });
      if (l + 1 < layers_.size()) keep_hidden_state(context, h);
    }
    h = functions::rms_norm(h, final_norm_, c.norm_eps);
    keep_hidden_state(context, h);
    return h;
  }

 private:
  LlamaLayer make_layer(const std::string& p, const Init& normal) {
    const LlamaConfig& c = config_values_;
    const int64_t q_size = c.num_heads * c.head_dim, kv_size = c.num_kv_heads * c.head_dim;
    const std::string attention = p + "self_attn.", mlp = p + "mlp.";
    const auto qkv = [&](const char* kind) {
      return std::vector<Part>{{attention + "q_proj" + kind, q_size},
                               {attention + "k_proj" + kind, kv_size},
                               {attention + "v_proj" + kind, kv_size}};
    };
    const auto gate_up = [&](const char* kind) {
      return std::vector<Part>{{mlp + "gate_proj" + kind, c.intermediate_size},
                               {mlp + "up_proj" + kind, c.intermediate_size}};
    };
    LlamaLayer layer;
    layer.parameters = parameters_.begin_layer();
    layer.input_norm = add_weight(p + "input_layernorm.weight", {c.hidden_size}, Init::ones());
    layer.qkv_weight = add_fused(attention + "qkv_proj.weight", qkv(".weight"), c.hidden_size, normal);
    layer.o_proj_weight = add_weight(attention + "o_proj.weight", {c.hidden_size, q_size}, normal);
    if (c.attention_bias) {
      layer.qkv_bias = add_fused(attention + "qkv_proj.bias", qkv(".bias"), 0, Init::zeros());
      layer.o_proj_bias = add_weight(attention + "o_proj.bias", {c.hidden_size}, Init::zeros());
    }
    layer.post_attention_norm = add_weight(p + "post_attention_layernorm.weight", {c.hidden_size}, Init::ones());
    layer.gate_up_weight = add_fused(mlp + "gate_up_proj.weight", gate_up(".weight"), c.hidden_size, normal);
    layer.down_proj_weight = add_weight(mlp + "down_proj.weight", {c.hidden_size, c.intermediate_size}, normal);
    if (c.mlp_bias) {
      layer.gate_up_bias = add_fused(mlp + "gate_up_proj.bias", gate_up(".bias"), 0, Init::zeros());
      layer.down_proj_bias = add_weight(mlp + "down_proj.bias", {c.hidden_size}, Init::zeros());
    }
    parameters_.end_layer();
    for (const Variable& weight : {layer.qkv_weight, layer.qkv_bias, layer.gate_up_weight, layer.gate_up_bias}) {
      share_rows(weight);
    }
    for (const Variable& weight : {layer.o_proj_weight, layer.down_proj_weight}) share_columns(weight);
    return layer;
  }

  /// Rows for the positions of this input; a model may allow far more of them than are ever used.
  const RopeTable& rope_table(const ModelInput& input, const ForwardContext& context) {
    const int64_t most = config_values_.max_positions;
    int64_t rows = most;  // positions that come with the batch may be any
    if (context.cache != nullptr) {
      rows = std::min(most, context.cache->sizes().capacity);
    } else if (!input.positions.defined()) {
      rows = std::min(most, input.input_ids.size(1));
    }
    if (rope_tables_.empty() || table_theta_ != config_values_.rope.theta || rope_tables_.back().cos.size(0) < rows) {
      constexpr uint64_t kLeastRows = 256;
      RopeConfig rope = config_values_.rope;
      rope.max_positions =
          std::min(most, static_cast<int64_t>(std::bit_ceil(std::max(kLeastRows, static_cast<uint64_t>(rows)))));
      rope_tables_.push_back(ops::make_rope_table(rope, device()));
      table_theta_ = rope.theta;
    }
    return rope_tables_.back();
  }

  Variable run_layer(int64_t l, const Variable& h, const ModelInput& input, const Tensor& positions,
                     const RopeTable& rope, const TokenRows& rows, const ForwardContext& context) {
    const LlamaConfig& c = config_values_;
    const LlamaLayer& layer = layers_[static_cast<size_t>(l)];
    SelfAttentionSettings settings;
    settings.num_heads = c.num_heads;
    settings.num_kv_heads = c.num_kv_heads;
    settings.head_dim = c.head_dim;
    settings.rope = &rope;
    settings.dropout_p = context.training ? c.attention_dropout : 0.0f;
    settings.bidirectional_prompt = info_.bidirectional_prefix;
    SelfAttentionInput masks{input.attention_mask, input.documents, positions,
                             rng_stream(context, static_cast<uint32_t>(l))};
    masks.prefix_ends = input.prefix_ends;

    Variable normed = functions::rms_norm(h, layer.input_norm, c.norm_eps);
    Variable qkv = rows.column_linear(normed, {.weight = layer.qkv_weight, .bias = layer.qkv_bias});
    Variable mixed = self_attention(qkv, l, rows.share(settings), masks, context.cache);
    Variable attended =
        rows.row_linear(mixed, {.weight = layer.o_proj_weight, .bias = layer.o_proj_bias, .residual = h});

    normed = functions::rms_norm(attended, layer.post_attention_norm, c.norm_eps);
    Variable gate_up = rows.column_linear(normed, {.weight = layer.gate_up_weight, .bias = layer.gate_up_bias});
    return rows.row_linear(functions::glu(gate_up, c.activation),
                           {.weight = layer.down_proj_weight, .bias = layer.down_proj_bias, .residual = attended});
  }

  LlamaConfig config_values_;
  std::deque<RopeTable> rope_tables_;  // growing; earlier ones stay, captured steps read them
  double table_theta_ = 0.0;           // of the last one
  Variable embed_tokens_, final_norm_;
  std::vector<LlamaLayer> layers_;
};

}  // namespace

std::unique_ptr<FamilyModel> make_llama(const JsonReader& config) { return std::make_unique<Llama>(config); }

}  // namespace ondol
