#include "models/bart_model.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <ondol/autograd/functions.h>
#include <ondol/ops/embedding.h>

#include "models/input.h"

namespace ondol {

namespace {

constexpr float kNormEps = 1e-5f;
constexpr int64_t kPositionOffset = 2;  // the first rows of a table of positions are not used

}  // namespace

BartConfig::BartConfig(const JsonReader& c) {
  vocab_size = c.get<int64_t>("vocab_size", 50265, between(1, 1 << 28));
  hidden_size = c.get<int64_t>("d_model", 1024, between(1, 1 << 20));
  max_positions = c.get<int64_t>("max_position_embeddings", 1024, between(1, 1 << 28));
  encoder_layers = c.get<int64_t>("encoder_layers", 12, between(1, 10000));
  encoder_heads = c.get<int64_t>("encoder_attention_heads", 16, between(1, 1 << 16));
  encoder_intermediate = c.get<int64_t>("encoder_ffn_dim", 4096, between(1, 1 << 24));
  decoder_layers = c.get<int64_t>("decoder_layers", 12, between(1, 10000));
  decoder_heads = c.get<int64_t>("decoder_attention_heads", 16, between(1, 1 << 16));
  decoder_intermediate = c.get<int64_t>("decoder_ffn_dim", 4096, between(1, 1 << 24));
  dropout = c.get<float>("dropout", 0.1f, half_open(0.0, 1.0));
  attention_dropout = c.get<float>("attention_dropout", 0.0f, half_open(0.0, 1.0));
  activation_dropout = c.get<float>("activation_dropout", 0.0f, half_open(0.0, 1.0));
  init_std = c.get<float>("init_std", 0.02f, at_least(0.0));
  scale_embedding = c.get<bool>("scale_embedding", false);
  tied = c.get<bool>("tie_word_embeddings", true);
  activation = read_activation(c, "activation_function", "gelu");
  padding_idx = c.get<int64_t>("pad_token_id", 1, between(0, vocab_size - 1));
  for (const char* key : {"encoder_attention_heads", "decoder_attention_heads"}) {
    const int64_t heads = key[0] == 'e' ? encoder_heads : decoder_heads;
    if (hidden_size % heads != 0) c.fail(key, concat(heads, " heads do not divide the hidden size ", hidden_size));
  }
}

Tensor Sinusoids::table(int64_t count, int64_t dim) const {
  std::vector<float> values;
  for (int64_t p = first; p < first + count; ++p) {
    for (int64_t d = 0; d < dim; ++d) {
      const double angle = static_cast<double>(p) * std::pow(10000.0, -static_cast<double>(d % (dim / 2)) / divisor);
      values.push_back(static_cast<float>(d < dim / 2 ? std::sin(angle) : std::cos(angle)));
    }
  }
  return Tensor::from_vector(values, {count, dim});
}

BartModel::BartModel(const JsonReader& reader, const BartConfig& config, const std::string& family)
    : EncoderDecoder(reader, family), config_values_(config) {
  const BartConfig& c = config_values_;
  info_.vocab_size = info_.source_vocab_size = c.vocab_size;
  info_.hidden_size = c.hidden_size;
  info_.num_layers = c.decoder_layers;
  info_.max_positions = info_.max_source_positions = c.max_positions;
  info_.num_kv_heads = c.decoder_heads;
  info_.head_dim = c.hidden_size / c.decoder_heads;
  // A token passes one of the two stacks: their mean.
  info_.matmul_parameters =
      c.hidden_size *
      ((has_label_head() ? 0 : c.vocab_size) + c.encoder_layers * (4 * c.hidden_size + 2 * c.encoder_intermediate) +
       c.decoder_layers * (8 * c.hidden_size + 2 * c.decoder_intermediate)) /
      2;
}

void BartModel::add_bart_weights(const Norms& norms) {
  const BartConfig& c = config_values_;
  const Init normal = Init::normal(c.init_std);
  if (!has_label_head()) final_logits_bias_ = add_buffer("final_logits_bias", {1, c.vocab_size}, Init::zeros());
  encoder_.tokens = decoder_.tokens =
      add_weight("model.shared.weight", {c.vocab_size, c.hidden_size}, normal.with_zero_row(c.padding_idx));
  add_stack("model.encoder.", false, norms, encoder_);
  add_stack("model.decoder.", true, norms, decoder_);
  if (has_label_head()) return add_label_head(normal);
  output_.weight = c.tied ? decoder_.tokens : add_weight("lm_head.weight", {c.vocab_size, c.hidden_size}, normal);
}

void BartModel::add_stack(const std::string& name, bool decoder, const Norms& norms, BartStack& stack) {
  const BartConfig& c = config_values_;
  const Init normal = Init::normal(c.init_std), zeros = Init::zeros(), ones = Init::ones();
  const int64_t hidden = c.hidden_size;
  const int64_t inner = decoder ? c.decoder_intermediate : c.encoder_intermediate;
  if (!sinusoids_) {
    stack.positions = add_weight(name + "embed_positions.weight", {c.max_positions + kPositionOffset, hidden}, normal);
  }
  if (norms.of_embeddings) {
    stack.embedding_norm_weight = add_weight(name + "layernorm_embedding.weight", {hidden}, ones);
    stack.embedding_norm_bias = add_weight(name + "layernorm_embedding.bias", {hidden}, zeros);
  }
  for (int64_t l = 0; l < (decoder ? c.decoder_layers : c.encoder_layers); ++l) {
    const std::string p = concat(name, "layers.", l, ".");
    BartLayer layer;
    layer.parameters = parameters_.begin_layer();
    layer.self = add_attention(p + "self_attn", false);
    if (decoder) layer.cross = add_attention(p + "encoder_attn", true);
    layer.up_weight = add_weight(p + "fc1.weight", {inner, hidden}, normal);
    layer.up_bias = add_weight(p + "fc1.bias", {inner}, zeros);
    layer.down_weight = add_weight(p + "fc2.weight", {hidden, inner}, normal);
    layer.down_bias = add_weight(p + "fc2.bias", {hidden}, zeros);
    layer.mlp_norm_weight = add_weight(p + "final_layer_norm.weight", {hidden}, ones);
    layer.mlp_norm_bias = add_weight(p + "final_layer_norm.bias", {hidden}, zeros);
    parameters_.end_layer();
    stack.layers.push_back(layer);
  }
  if (norms.final) {
    stack.final_norm_weight = add_weight(name + "layer_norm.weight", {hidden}, ones);
    stack.final_norm_bias = add_weight(name + "layer_norm.bias", {hidden}, zeros);
  }
}

BartAttention BartModel::add_attention(const std::string& name, bool cross) {
  const int64_t hidden = config_values_.hidden_size;
  const Init normal = Init::normal(config_values_.init_std), zeros = Init::zeros();
  const auto part = [&](const char* projection, const char* kind) {
    return Part{concat(name, ".", projection, "_proj.", kind), hidden};
  };
  BartAttention attention;
  if (cross) {
    attention.in_weight = add_weight(name + ".q_proj.weight", {hidden, hidden}, normal);
    attention.in_bias = add_weight(name + ".q_proj.bias", {hidden}, zeros);
    attention.kv_weight =
        add_fused(name + ".kv_proj.weight", {part("k", "weight"), part("v", "weight")}, hidden, normal);
    attention.kv_bias = add_fused(name + ".kv_proj.bias", {part("k", "bias"), part("v", "bias")}, 0, zeros);
  } else {
    attention.in_weight = add_fused(name + ".qkv_proj.weight",
                                    {part("q", "weight"), part("k", "weight"), part("v", "weight")}, hidden, normal);
    attention.in_bias =
        add_fused(name + ".qkv_proj.bias", {part("q", "bias"), part("k", "bias"), part("v", "bias")}, 0, zeros);
  }
  attention.o_proj_weight = add_weight(name + ".out_proj.weight", {hidden, hidden}, normal);
  attention.o_proj_bias = add_weight(name + ".out_proj.bias", {hidden}, zeros);
  attention.norm_weight = add_weight(name + "_layer_norm.weight", {hidden}, Init::ones());
  attention.norm_bias = add_weight(name + "_layer_norm.bias", {hidden}, zeros);
  return attention;
}

bool BartModel::is_buffer(const std::string& name) const {
  return (sinusoids_ && name.ends_with("embed_positions.weight")) || is_other_head(name);
}

std::string BartModel::tied_name(const std::string& name) const {
  if (name.ends_with("encoder.embed_tokens.weight") || name.ends_with("decoder.embed_tokens.weight")) {
    return "model.shared.weight";
  }
  return config_values_.tied && name == "lm_head.weight" ? "model.shared.weight" : "";
}

OutputProjection BartModel::output_projection() const {
  OutputProjection output = EncoderDecoder::output_projection();
  if (final_logits_bias_.defined()) {
    output.bias = Variable(final_logits_bias_.value().reshape({config_values_.vocab_size}));
  }
  return output;
}

Variable BartModel::norm(const Variable& x, const Variable& weight, const Variable& bias) {
  return functions::layer_norm(x, weight, bias, kNormEps);
}

/// For at least so many positions; a model may allow far more than are ever used.
const Tensor& BartModel::sinusoid_table(int64_t rows) {
  if (sinusoid_tables_.empty() || sinusoid_tables_.back().size(0) < rows) {
    constexpr uint64_t kLeastRows = 256;
    const auto made = static_cast<int64_t>(std::bit_ceil(std::max(kLeastRows, static_cast<uint64_t>(rows))));
    const Tensor table = sinusoids_->table(std::min(made, config_values_.max_positions), config_values_.hidden_size);
    sinusoid_tables_.push_back(table.to(dtype()).to(device()));
  }
  return sinusoid_tables_.back();
}

/// (T, C), or (B, T, C) with a cache. What does not change is made once: a captured step reads it again.
Variable BartModel::position_vectors(const BartStack& stack, int64_t length, const ForwardContext& context) {
  const int64_t most = config_values_.max_positions;
  const int64_t end = context.cache != nullptr ? context.cache->max_length() : length;
  ONDOL_CHECK(end <= most, "a sequence of ", end, " tokens is longer than the model allows (", most, " positions)");
  if (context.cache != nullptr) {
    const Tensor table = stack.positions.defined() ? stack.positions.value().narrow(0, kPositionOffset, most)
                                                   : sinusoid_table(std::min(most, context.cache->sizes().capacity));
    return Variable(ops::embedding(table, context.cache->positions()));
  }
  if (!stack.positions.defined()) return Variable(sinusoid_table(length).narrow(0, 0, length));
  if (!position_ids_.defined()) {
    std::vector<int32_t> ids;
    for (int64_t p = 0; p < most + kPositionOffset; ++p) ids.push_back(static_cast<int32_t>(p));
    position_ids_ = Tensor::from_vector(ids, {most + kPositionOffset}, device());
  }
  return functions::embedding(stack.positions, position_ids_.narrow(0, kPositionOffset, length));
}

Variable BartModel::embed(const BartStack& stack, const Tensor& ids, const ForwardContext& context, uint32_t site) {
  const BartConfig& c = config_values_;
  Variable h = functions::embedding(stack.tokens, ids, c.padding_idx);
  if (c.scale_embedding) h = functions::scale(h, std::sqrt(static_cast<float>(c.hidden_size)));
  h = functions::add(h, position_vectors(stack, ids.size(1), context));
  if (stack.embedding_norm_weight.defined()) h = norm(h, stack.embedding_norm_weight, stack.embedding_norm_bias);
  return drop(h, c.dropout, context, site);
}

namespace {

/// Numbers of dropout sites: one for the embeddings, eight for each layer.
uint32_t site_of(uint32_t first, size_t layer) { return first + 1 + 8 * static_cast<uint32_t>(layer); }

}  // namespace

Variable BartModel::run_encoder(const Tensor& ids, const Tensor& attention_mask, const ForwardContext& context) {
  constexpr const char* kPrefix = "encoder_hidden_states";
  ModelInput input;
  input.attention_mask = attention_mask;
  Variable h = embed(encoder_, ids, context, 0);
  keep_hidden_state(context, h, kPrefix);
  for (size_t l = 0; l < encoder_.layers.size(); ++l) {
    h = run_as_layer(context, encoder_.layers[l].parameters, [=, this] {
      return run_layer({encoder_.layers[l], static_cast<int64_t>(l), false, input, {}, context, site_of(0, l)}, h);
    });
    if (l + 1 < encoder_.layers.size()) keep_hidden_state(context, h, kPrefix);
  }
  if (encoder_.final_norm_weight.defined()) h = norm(h, encoder_.final_norm_weight, encoder_.final_norm_bias);
  keep_hidden_state(context, h, kPrefix);
  return h;
}

Variable BartModel::run_decoder(const ModelInput& input, const Variable& encoded, const ForwardContext& context) {
  constexpr const char* kPrefix = "decoder_hidden_states";
  Variable h = embed(decoder_, input.decoder_input_ids, context, kDecoderSites);
  keep_hidden_state(context, h, kPrefix);
  for (size_t l = 0; l < decoder_.layers.size(); ++l) {
    const uint32_t site = site_of(kDecoderSites, l);
    h = run_as_layer(context, decoder_.layers[l].parameters, [=, this] {
      return run_layer({decoder_.layers[l], static_cast<int64_t>(l), true, input, encoded, context, site}, h);
    });
    if (l + 1 < decoder_.layers.size()) keep_hidden_state(context, h, kPrefix);
  }
  if (decoder_.final_norm_weight.defined()) h = norm(h, decoder_.final_norm_weight, decoder_.final_norm_bias);
  keep_hidden_state(context, h, kPrefix);
  return h;
}

Variable BartModel::source_keys_values(int64_t layer, const Variable& encoded, const TokenRows& rows) {
  const BartAttention& cross = decoder_.layers[static_cast<size_t>(layer)].cross;
  return rows.column_linear(encoded, {.weight = cross.kv_weight, .bias = cross.kv_bias});
}

SelfAttentionSettings BartModel::settings(const LayerCall& call, bool causal) const {
  SelfAttentionSettings settings;
  settings.num_heads = settings.num_kv_heads =
      call.decoder ? config_values_.decoder_heads : config_values_.encoder_heads;
  settings.head_dim = config_values_.hidden_size / settings.num_heads;
  settings.causal = causal;
  settings.dropout_p = call.context.training ? config_values_.attention_dropout : 0.0f;
  return settings;
}

/// Without dropout the sum is part of the product.
Variable BartModel::close_branch(const LayerCall& call, const Variable& x, const Variable& weight, const Variable& bias,
                                 const Variable& residual, uint32_t site) {
  if (!call.context.training || config_values_.dropout == 0.0f) {
    return functions::linear(x, {.weight = weight, .bias = bias, .residual = residual});
  }
  return functions::dropout_add(functions::linear(x, {.weight = weight, .bias = bias}), residual,
                                config_values_.dropout, rng_stream(call.context, site));
}

Variable BartModel::self_branch(const LayerCall& call, const Variable& x, const Variable& residual) {
  const BartAttention& a = call.layer.self;
  const Tensor& mask = call.decoder ? call.input.decoder_attention_mask : call.input.attention_mask;
  Variable qkv = functions::linear(x, {.weight = a.in_weight, .bias = a.in_bias});
  Variable mixed = self_attention(qkv, call.number, settings(call, call.decoder),
                                  {mask, {}, {}, rng_stream(call.context, call.site), {}, {}}, call.context.cache);
  return close_branch(call, mixed, a.o_proj_weight, a.o_proj_bias, residual, call.site + 1);
}

Variable BartModel::cross_branch(const LayerCall& call, const Variable& x, const Variable& residual) {
  const BartAttention& a = call.layer.cross;
  Variable q = functions::linear(x, {.weight = a.in_weight, .bias = a.in_bias});
  Variable mixed =
      attend_source(q, call.number, settings(call, false), call.input, call.encoded, call.context, call.site + 2);
  return close_branch(call, mixed, a.o_proj_weight, a.o_proj_bias, residual, call.site + 3);
}

Variable BartModel::mlp_branch(const LayerCall& call, const Variable& x, const Variable& residual) {
  const BartLayer& layer = call.layer;
  Variable up =
      functions::linear(x, {.weight = layer.up_weight, .bias = layer.up_bias, .activation = config_values_.activation});
  up = drop(up, config_values_.activation_dropout, call.context, call.site + 4);
  return close_branch(call, up, layer.down_weight, layer.down_bias, residual, call.site + 5);
}

Variable PostNormBart::run_layer(const LayerCall& call, const Variable& x) {
  const BartLayer& layer = call.layer;
  Variable h = norm(self_branch(call, x, x), layer.self.norm_weight, layer.self.norm_bias);
  if (call.decoder) h = norm(cross_branch(call, h, h), layer.cross.norm_weight, layer.cross.norm_bias);
  return norm(mlp_branch(call, h, h), layer.mlp_norm_weight, layer.mlp_norm_bias);
}

Variable PreNormBart::run_layer(const LayerCall& call, const Variable& x) {
  const BartLayer& layer = call.layer;
  Variable h = self_branch(call, norm(x, layer.self.norm_weight, layer.self.norm_bias), x);
  if (call.decoder) h = cross_branch(call, norm(h, layer.cross.norm_weight, layer.cross.norm_bias), h);
  return mlp_branch(call, norm(h, layer.mlp_norm_weight, layer.mlp_norm_bias), h);
}

}  // namespace ondol
