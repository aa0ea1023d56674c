// GPT-2 (Radford et al. 2019; GPT2LMHeadModel, GPT2ForSequenceClassification, GPT2ForTokenClassification): learned
// positions, pre-norm LayerNorm blocks, tanh GELU, tied output.
//
//   h = wte[ids] + wpe[positions]
//   h = h + c_proj(attention(c_attn(ln_1(h))));  h = h + c_proj(gelu(c_fc(ln_2(h))))     per layer
//   logits = ln_f(h) wte^T
//
// Files keep matrices as (in, out) ("Conv1D"); here they are (out, in). Legend: C hidden size, V vocabulary, T length.
#include <cmath>

#include <ondol/autograd/functions.h>
#include <ondol/nn/self_attention.h>

#include "models/causal_model.h"
#include "models/input.h"

namespace ondol {

namespace {

struct Gpt2Config {
  int64_t vocab_size, max_positions, hidden_size, num_layers, num_heads, intermediate_size;
  float norm_eps, initializer_range;
  float embedding_dropout, residual_dropout, attention_dropout;
  bool scale_attention, scale_by_inverse_layer, tied;
  Activation activation;

  explicit Gpt2Config(const JsonReader& c) {
    vocab_size = c.get<int64_t>("vocab_size", 50257, between(1, 1 << 28));
    max_positions = c.get<int64_t>("n_positions", 1024, between(1, 1 << 28));
    hidden_size = c.get<int64_t>("n_embd", 768, between(1, 1 << 20));
    num_layers = c.get<int64_t>("n_layer", 12, between(1, 10000));
    num_heads = c.get<int64_t>("n_head", 12, between(1, 1 << 16));
    intermediate_size = c.get<int64_t>("n_inner", 4 * hidden_size, between(1, 1 << 24));
    norm_eps = c.get<float>("layer_norm_epsilon", 1e-5f, above(0.0));
    initializer_range = c.get<float>("initializer_range", 0.02f, at_least(0.0));
    embedding_dropout = c.get<float>("embd_pdrop", 0.1f, half_open(0.0, 1.0));
    residual_dropout = c.get<float>("resid_pdrop", 0.1f, half_open(0.0, 1.0));
    attention_dropout = c.get<float>("attn_pdrop", 0.1f, half_open(0.0, 1.0));
    scale_attention = c.get<bool>("scale_attn_weights", true);
    scale_by_inverse_layer = c.get<bool>("scale_attn_by_inverse_layer_idx", false);
    tied = c.get<bool>("tie_word_embeddings", true);
    activation = read_activation(c, "activation_function", "gelu_new");
    if (hidden_size % num_heads != 0) {
      c.fail("n_head", concat(num_heads, " heads do not divide the hidden size ", hidden_size));
    }
    if (c.get<bool>("add_cross_attention", false)) c.fail("add_cross_attention", "not supported");
  }
};

struct Gpt2Layer {
  LayerParameters parameters;
  Variable ln_1_weight, ln_1_bias, ln_2_weight, ln_2_bias;
  Variable qkv_weight, qkv_bias, o_proj_weight, o_proj_bias;
  Variable up_proj_weight, up_proj_bias, down_proj_weight, down_proj_bias;
};

class Gpt2 final : public CausalModel {
 public:
  explicit Gpt2(const JsonReader& reader)
      : CausalModel(reader, {"GPT2", "GPT2LMHeadModel", "classifier"}), config_values_(reader) {
    const Gpt2Config& c = config_values_;
    info_.vocab_size = c.vocab_size;
    info_.hidden_size = c.hidden_size;
    info_.num_layers = c.num_layers;
    info_.max_positions = c.max_positions;
    info_.num_kv_heads = c.num_heads;
    info_.head_dim = c.hidden_size / c.num_heads;
    info_.matmul_parameters = c.num_layers * (4 * c.hidden_size + 2 * c.intermediate_size) * c.hidden_size;

    const int64_t hidden = c.hidden_size;
    const Init normal = Init::normal(c.initializer_range);
    // Projections that end a residual branch start smaller: 1 / sqrt(2 L).
    const Init residual = Init::normal(c.initializer_range / std::sqrt(2.0f * static_cast<float>(c.num_layers)));
    token_embedding_ = add_weight("transformer.wte.weight", {c.vocab_size, hidden}, normal);
    position_embedding_ = add_weight("transformer.wpe.weight", {c.max_positions, hidden}, normal);
    for (int64_t l = 0; l < c.num_layers; ++l) {
      const std::string p = concat("transformer.h.", l, ".");
      Gpt2Layer layer;
      layer.parameters = parameters_.begin_layer();
      layer.ln_1_weight = add_weight(p + "ln_1.weight", {hidden}, Init::ones());
      layer.ln_1_bias = add_weight(p + "ln_1.bias", {hidden}, Init::zeros());
      layer.qkv_weight = add_weight(p + "attn.c_attn.weight", {3 * hidden, hidden}, normal, true);
      layer.qkv_bias = add_weight(p + "attn.c_attn.bias", {3 * hidden}, Init::zeros());
      layer.o_proj_weight = add_weight(p + "attn.c_proj.weight", {hidden, hidden}, residual, true);
      layer.o_proj_bias = add_weight(p + "attn.c_proj.bias", {hidden}, Init::zeros());
      layer.ln_2_weight = add_weight(p + "ln_2.weight", {hidden}, Init::ones());
      layer.ln_2_bias = add_weight(p + "ln_2.bias", {hidden}, Init::zeros());
      layer.up_proj_weight = add_weight(p + "mlp.c_fc.weight", {c.intermediate_size, hidden}, normal, true);
      layer.up_proj_bias = add_weight(p + "mlp.c_fc.bias", {c.intermediate_size}, Init::zeros());
      layer.down_proj_weight = add_weight(p + "mlp.c_proj.weight", {hidden, c.intermediate_size}, residual, true);
      layer.down_proj_bias = add_weight(p + "mlp.c_proj.bias", {hidden}, Init::zeros());
      parameters_.end_layer();
      for (const Variable& weight : {layer.qkv_weight, layer.qkv_bias}) share_rows(weight, {hidden, hidden, hidden});
      for (const Variable& weight : {layer.up_proj_weight, layer.up_proj_bias}) share_rows(weight);
      for (const Variable& weight : {layer.o_proj_weight, layer.down_proj_weight}) share_columns(weight);
      layers_.push_back(layer);
    }
    final_norm_weight_ = add_weight("transformer.ln_f.weight", {hidden}, Init::ones());
    final_norm_bias_ = add_weight("transformer.ln_f.bias", {hidden}, Init::zeros());
    add_head(token_embedding_, c.tied, normal);
  }

  std::string base_prefix() const override { return "transformer."; }
  bool is_buffer(const std::string& name) const override {
    return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") || is_other_head(name);
  }
  std::string tied_name(const std::string& name) const override {
    return config_values_.tied && name == "lm_head.weight" ? "transformer.wte.weight" : "";
  }

 protected:
  void check_tensor_ranks(int ranks) const override {
    const Gpt2Config& c = config_values_;
    check_shared_out("n_head", c.num_heads, ranks);
    check_shared_out("n_inner", c.intermediate_size, ranks);
  }

  Variable own_hidden(const ModelInput& input, const TokenRows& rows, const ForwardContext& context) override {
    const Gpt2Config& c = config_values_;
    const Tensor positions = resolve_positions(input, context, info_);
    Variable h = functions::add(functions::embedding(token_embedding_, rows.own(input.input_ids, 0)),
                                functions::embedding(position_embedding_, rows.own(positions, 0)));
    h = drop(h, c.embedding_dropout, context, 0, rows);
    keep_hidden_state(context, h);
    for (size_t l = 0; l < layers_.size(); ++l) {
      h = run_as_layer(context, layers_[l].parameters,
                       [=, this] { return run_layer(static_cast<int64_t>(l), h, input, rows, context); });
      if (l + 1 < layers_.size()) keep_hidden_state(context, h);
    }
    h = functions::layer_norm(h, final_norm_weight_, final_norm_bias_, c.norm_eps);
    keep_hidden_state(context, h);
    return h;
  }

 private:
  Variable run_layer(int64_t l, const Variable& h, const ModelInput& input, const TokenRows& rows,
                     const ForwardContext& context) {
    const Gpt2Config& c = config_values_;
    const Gpt2Layer& layer = layers_[static_cast<size_t>(l)];
    const uint32_t stream = 1 + 3 * static_cast<uint32_t>(l);

    SelfAttentionSettings settings;
    settings.num_heads = settings.num_kv_heads = c.num_heads;
    settings.head_dim = info_.head_dim;
    settings.scale = c.scale_attention ? 1.0f / std::sqrt(static_cast<float>(info_.head_dim)) : 1.0f;
    if (c.scale_by_inverse_layer) settings.scale /= static_cast<float>(l + 1);
    settings.dropout_p = context.training ? c.attention_dropout : 0.0f;
    settings.bidirectional_prompt = info_.bidirectional_prefix;
    SelfAttentionInput masks{input.attention_mask, input.documents, {}, rng_stream(context, stream)};
    masks.prefix_ends = input.prefix_ends;

    Variable normed = functions::layer_norm(h, layer.ln_1_weight, layer.ln_1_bias, c.norm_eps);
    Variable qkv = rows.column_linear(normed, {.weight = layer.qkv_weight, .bias = layer.qkv_bias});
    Variable mixed = self_attention(qkv, l, rows.share(settings), masks, context.cache);
    Variable attended =
        close_branch(h, mixed, {layer.o_proj_weight, layer.o_proj_bias}, c.residual_dropout, context, stream + 1, rows);

    normed = functions::layer_norm(attended, layer.ln_2_weight, layer.ln_2_bias, c.norm_eps);
    Variable up = rows.column_linear(
        normed, {.weight = layer.up_proj_weight, .bias = layer.up_proj_bias, .activation = c.activation});
    return close_branch(attended, up, {layer.down_proj_weight, layer.down_proj_bias}, c.residual_dropout, context,
                        stream + 2, rows);
  }

  const Gpt2Config config_values_;
  Variable token_embedding_, position_embedding_, final_norm_weight_, final_norm_bias_;
  std::vector<Gpt2Layer> layers_;
};

}  // namespace

std::unique_ptr<FamilyModel> make_gpt2(const JsonReader& config) { return std::make_unique<Gpt2>(config); }

}  // namespace ondol
