// T5 1.0 and 1.1 (Raffel et al. 2020; Shazeer 2020 for the gated form; T5ForConditionalGeneration,
// T5ForSequenceClassification, T5EncoderModel): RMSNorm before each branch, no biases, learned biases by distance that
// all layers of a stack share, scores that are not divided by sqrt(D).
//
//   h = h + o(attention(q n, k n, v n) + bias of the distance),  n = rms_norm(h)
//   h = h + o(attention(q n, k encoded, v encoded)),             n = rms_norm(h)       decoder only
//   h = h + wo(relu(wi n))  or  h + wo(gelu(wi_0 n) * wi_1 n),   n = rms_norm(h)       per layer
//   logits = rms_norm(h) shared^T / sqrt(C) when tied, rms_norm(h) lm_head^T otherwise
//
// q, k, v, the k, v of cross-attention, and wi_0, wi_1 are one matrix each here and separate tensors in files.
#include <cmath>

#include <ondol/autograd/functions.h>
#include <ondol/nn/relative_position.h>
#include <ondol/nn/self_attention.h>

#include "models/encoder_decoder.h"
#include "models/input.h"

namespace ondol {

namespace {

/// There is no table of positions: only memory ends a sequence.
constexpr int64_t kAnyLength = int64_t{1} << 30;

struct T5Config {
  int64_t vocab_size, hidden_size, head_dim, intermediate_size, num_layers, num_decoder_layers, num_heads;
  int64_t num_buckets, max_distance;
  float norm_eps, dropout, initializer_factor;
  bool tied, gated;
  Activation activation;

  explicit T5Config(const JsonReader& c) {
    vocab_size = c.get<int64_t>("vocab_size", 32128, between(1, 1 << 28));
    hidden_size = c.get<int64_t>("d_model", 512, between(1, 1 << 20));
    head_dim = c.get<int64_t>("d_kv", 64, between(1, 1 << 14));
    intermediate_size = c.get<int64_t>("d_ff", 2048, between(1, 1 << 24));
    num_layers = c.get<int64_t>("num_layers", 6, between(1, 10000));
    num_decoder_layers = c.get<int64_t>("num_decoder_layers", num_layers, between(1, 10000));
    num_heads = c.get<int64_t>("num_heads", 8, between(1, 1 << 16));
    num_buckets = c.get<int64_t>("relative_attention_num_buckets", 32, between(4, 1 << 16));
    max_distance = c.get<int64_t>("relative_attention_max_distance", 128, between(2, 1 << 24));
    if (max_distance <= num_buckets / 2) {
      c.fail("relative_attention_max_distance", concat("must be greater than half of the ", num_buckets, " buckets"));
    }
    norm_eps = c.get<float>("layer_norm_epsilon", 1e-6f, above(0.0));
    dropout = c.get<float>("dropout_rate", 0.1f, half_open(0.0, 1.0));
    initializer_factor = c.get<float>("initializer_factor", 1.0f, at_least(0.0));
    // Newer files say tie_word_embeddings: true of every model and put the old meaning under another name.
    tied = c.get<bool>("scale_decoder_outputs", c.get<bool>("tie_word_embeddings", true));
    std::string name = c.get<std::string>("feed_forward_proj", "relu");
    gated = name.starts_with("gated-");
    if (gated) name = name.substr(6);
    try {
      activation = activation_from_name(gated && name == "gelu" ? "gelu_new" : name);
    } catch (const UsageError& error) {
      c.fail("feed_forward_proj", error.what(), error.hint());
    }
  }
};

struct T5Layer {
  LayerParameters parameters;
  Variable attention_norm, qkv, o_proj;
  Variable cross_norm, cross_q, cross_kv, cross_o_proj;  // decoder
  Variable mlp_norm, up_proj, down_proj;                 // up_proj: gate above it when gated
};

struct T5Stack {
  std::vector<T5Layer> layers;
  Variable relative_bias, final_norm;  // relative_bias (buckets, H)
  RelativePositions positions;

  T5Stack(bool bidirectional, const T5Config& c) : positions({bidirectional, c.num_buckets, c.max_distance}) {}
};

/// Weights and branches of both stacks, on top of a class that knows what is done with them.
template <class Base>
class T5Layers : public Base {
 public:
  std::string base_prefix() const override { return prefix_; }
  bool is_buffer(const std::string& name) const override {
    // A relic of the first files: cross-attention has no biases.
    return name.ends_with("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight");
  }
  std::string tied_name(const std::string& name) const override {
    const bool tied = name.ends_with("encoder.embed_tokens.weight") || name.ends_with("decoder.embed_tokens.weight") ||
                      (config_values_.tied && name == "lm_head.weight");
    return tied ? prefix_ + "shared.weight" : "";
  }

 protected:
  using Part = FamilyModel::Part;

  /// `base` are further arguments of the base class, `prefix` stands before the names of all weights of the stacks.
  template <class... Arguments>
  T5Layers(const JsonReader& reader, std::string prefix, Arguments&&... base)
      : Base(reader, std::forward<Arguments>(base)...),
        config_values_(reader),
        encoder_(true, config_values_),
        prefix_(std::move(prefix)) {
    const T5Config& c = config_values_;
    this->info_.vocab_size = this->info_.source_vocab_size = c.vocab_size;
    this->info_.hidden_size = c.hidden_size;
    this->info_.max_positions = this->info_.max_source_positions = kAnyLength;
    this->info_.num_kv_heads = c.num_heads;
    this->info_.head_dim = c.head_dim;
    this->config_["tie_word_embeddings"] = this->config_["scale_decoder_outputs"] = c.tied;
    shared_ =
        this->add_weight(prefix_ + "shared.weight", {c.vocab_size, c.hidden_size}, Init::normal(c.initializer_factor));
    add_stack("encoder", c.num_layers, false, encoder_);
  }

  void add_stack(const std::string& stack_name, int64_t num_layers, bool decoder, T5Stack& stack) {
    const std::string name = prefix_ + stack_name;
    const T5Config& c = config_values_;
    const Init ones{Init::Kind::constant, c.initializer_factor};
    stack.relative_bias =
        this->add_weight(name + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                         {c.num_buckets, c.num_heads}, Init::normal(c.initializer_factor / root(c.hidden_size)));
    this->share_columns(stack.relative_bias);
    for (int64_t l = 0; l < num_layers; ++l) {
      const std::string p = concat(name, ".block.", l, ".layer.");
      T5Layer layer;
      layer.parameters = this->parameters_.begin_layer();
      layer.attention_norm = this->add_weight(p + "0.layer_norm.weight", {c.hidden_size}, ones);
      add_attention(p + "0.SelfAttention.", false, layer);
      if (decoder) {
        layer.cross_norm = this->add_weight(p + "1.layer_norm.weight", {c.hidden_size}, ones);
        add_attention(p + "1.EncDecAttention.", true, layer);
      }
      const std::string mlp = p + (decoder ? "2." : "1.");
      layer.mlp_norm = this->add_weight(mlp + "layer_norm.weight", {c.hidden_size}, ones);
      add_mlp(mlp + "DenseReluDense.", layer);
      this->parameters_.end_layer();
      for (const Variable& weight : {layer.qkv, layer.cross_q, layer.cross_kv, layer.up_proj}) this->share_rows(weight);
      for (const Variable& weight : {layer.o_proj, layer.cross_o_proj, layer.down_proj}) {
        if (weight.defined()) this->share_columns(weight);
      }
      stack.layers.push_back(layer);
    }
    stack.final_norm = this->add_weight(name + ".final_layer_norm.weight", {c.hidden_size}, ones);
  }

  void check_tensor_ranks(int ranks) const override {
    this->check_shared_out("num_heads", config_values_.num_heads, ranks);
    this->check_shared_out("d_ff", config_values_.intermediate_size, ranks);
  }

  /// x = dropout(embeddings), for both stacks.
  Variable embed(const Tensor& ids, const TokenRows& rows, const ForwardContext& context, uint32_t site) {
    return drop(functions::embedding(shared_, rows.own(ids, 0)), config_values_.dropout, context, site, rows);
  }

  Variable norm(const Variable& h, const Variable& weight) {
    return functions::rms_norm(h, weight, config_values_.norm_eps);
  }

  /// Biases of a stack for T queries: all distances among the tokens, or among those of the cache.
  RelativeBias biases(T5Stack& stack, int64_t length, const ForwardContext& context) {
    // A row of the cache may end anywhere, and padding of a step stand behind it.
    const int64_t keys = context.cache != nullptr ? context.cache->reach() : length;
    const auto row =
        stack.positions.row(context.cache != nullptr ? keys + length : length - 1, keys - 1, this->device());
    return {functions::relative_bias(stack.relative_bias, row.buckets), row.origin};
  }

  SelfAttentionSettings attention_settings(bool causal, const ForwardContext& context) const {
    SelfAttentionSettings settings;
    settings.num_heads = settings.num_kv_heads = config_values_.num_heads;
    settings.head_dim = config_values_.head_dim;
    settings.causal = causal;
    settings.scale = 1.0f;
    settings.dropout_p = context.training ? config_values_.dropout : 0.0f;
    return settings;
  }

  /// h + dropout(x w^T).
  Variable close_branch(const Variable& h, const Variable& x, const Variable& weight, const TokenRows& rows,
                        const ForwardContext& context, uint32_t site) {
    return ondol::close_branch(h, x, {weight, {}}, config_values_.dropout, context, site, rows);
  }

  /// The three branches of a layer use sites of 2 numbers each, cross-attention those in between.
  static uint32_t site_of(uint32_t first, size_t layer) { return first + 1 + 8 * static_cast<uint32_t>(layer); }

  Variable self_branch(const T5Layer& layer, int64_t l, const Variable& h, const SelfAttentionInput& masks, bool causal,
                       const TokenRows& rows, const ForwardContext& context, uint32_t site) {
    Variable qkv = rows.column_linear(norm(h, layer.attention_norm), {.weight = layer.qkv});
    Variable mixed = self_attention(qkv, l, rows.share(attention_settings(causal, context)), masks, context.cache);
    return close_branch(h, mixed, layer.o_proj, rows, context, site);
  }

  Variable mlp_branch(const T5Layer& layer, const Variable& h, const TokenRows& rows, const ForwardContext& context,
                      uint32_t site) {
    const T5Config& c = config_values_;
    const Variable normed = norm(h, layer.mlp_norm);
    Variable inner = c.gated ? functions::glu(rows.column_linear(normed, {.weight = layer.up_proj}), c.activation)
                             : rows.column_linear(normed, {.weight = layer.up_proj, .activation = c.activation});
    if (context.training) {
      const RngKey key = rows.of_columns(rng_stream(context, site + 1), c.intermediate_size);
      inner = functions::dropout(inner, c.dropout, key);
    }
    return close_branch(h, inner, layer.down_proj, rows, context, site);
  }

  Variable encoder_states(const Tensor& ids, const Tensor& attention_mask, const ForwardContext& context,
                          const std::string& prefix) {
    const TokenRows rows = this->token_rows(ids, context);
    Variable h = embed(ids, rows, context, 0);
    keep_hidden_state(context, h, prefix);
    const RelativeBias bias = biases(encoder_, ids.size(1), {});
    for (size_t l = 0; l < encoder_.layers.size(); ++l) {
      const T5Layer& layer = encoder_.layers[l];
      const uint32_t site = site_of(0, l);
      const SelfAttentionInput masks{attention_mask, {}, {}, rng_stream(context, site + 1), {}, bias};
      h = run_as_layer(context, layer.parameters, [=, this, &layer] {
        const Variable attended =
            self_branch(layer, static_cast<int64_t>(l), h, masks, /*causal=*/false, rows, context, site);
        return mlp_branch(layer, attended, rows, context, site + 2);
      });
      if (l + 1 < encoder_.layers.size()) keep_hidden_state(context, h, prefix);
    }
    h = drop(norm(h, encoder_.final_norm), config_values_.dropout, context, site_of(0, encoder_.layers.size()), rows);
    keep_hidden_state(context, h, prefix);
    return h;
  }

  static float root(int64_t size) { return std::sqrt(static_cast<float>(size)); }

  const T5Config config_values_;
  Variable shared_;
  T5Stack encoder_;

 private:
  const std::string prefix_;

  void add_attention(const std::string& p, bool cross, T5Layer& layer) {
    const T5Config& c = config_values_;
    const int64_t inner = c.num_heads * c.head_dim;
    const float key_size = c.initializer_factor / root(c.hidden_size);
    const float query_size = key_size / root(c.head_dim);
    const Init output = Init::normal(c.initializer_factor / root(inner));
    const Part q{p + "q.weight", inner}, k{p + "k.weight", inner}, v{p + "v.weight", inner};
    if (cross) {
      layer.cross_q = this->add_weight(q.name, {inner, c.hidden_size}, Init::normal(query_size));
      layer.cross_kv = this->add_fused(p + "kv.weight", {k, v}, c.hidden_size, Init::normal(key_size));
    } else {
      layer.qkv = this->add_fused(p + "qkv.weight", {q, k, v}, c.hidden_size,
                                  Init::normal(key_size).with_first_rows(inner, query_size));
    }
    (cross ? layer.cross_o_proj : layer.o_proj) = this->add_weight(p + "o.weight", {c.hidden_size, inner}, output);
  }

  void add_mlp(const std::string& p, T5Layer& layer) {
    const T5Config& c = config_values_;
    const Init up = Init::normal(c.initializer_factor / root(c.hidden_size));
    if (c.gated) {
      layer.up_proj = this->add_fused(
          p + "wi_01.weight", {{p + "wi_0.weight", c.intermediate_size}, {p + "wi_1.weight", c.intermediate_size}},
          c.hidden_size, up);
    } else {
      layer.up_proj = this->add_weight(p + "wi.weight", {c.intermediate_size, c.hidden_size}, up);
    }
    layer.down_proj = this->add_weight(p + "wo.weight", {c.hidden_size, c.intermediate_size},
                                       Init::normal(c.initializer_factor / root(c.intermediate_size)));
  }
};

/// Weights of the matrix products of a layer, output projection aside.
int64_t layer_matmul_parameters(const T5Config& c, bool decoder) {
  return c.hidden_size * ((decoder ? 8 : 4) * c.num_heads * c.head_dim + (c.gated ? 3 : 2) * c.intermediate_size);
}

class T5 final : public T5Layers<EncoderDecoder> {
 public:
  explicit T5(const JsonReader& reader)
      : T5Layers(reader, label_head_of(reader, kFamily) == Head::sequence_classification ? "transformer." : "",
                 kFamily),
        decoder_(false, config_values_) {
    const T5Config& c = config_values_;
    if (!has_label_head()) info_.architecture = "T5ForConditionalGeneration";
    info_.num_layers = c.num_decoder_layers;
    // A token passes one of the two stacks: their mean.
    info_.matmul_parameters =
        ((has_label_head() ? 0 : c.vocab_size * c.hidden_size) + c.num_layers * layer_matmul_parameters(c, false) +
         c.num_decoder_layers * layer_matmul_parameters(c, true)) /
        2;
    add_stack("decoder", c.num_decoder_layers, true, decoder_);
    if (has_label_head()) {
      if (info_.eos_token_ids.empty()) info_.eos_token_ids = {1};
      add_label_head(Init::normal(c.initializer_factor / root(c.hidden_size)));
      return;
    }
    output_.weight = shared_;
    output_.scale = c.tied ? 1.0f / root(c.hidden_size) : 1.0f;
    if (!c.tied) {
      output_.weight = add_weight("lm_head.weight", {c.vocab_size, c.hidden_size}, Init::normal(c.initializer_factor));
    }
  }

 protected:
  bool is_buffer(const std::string& name) const override { return T5Layers::is_buffer(name) || is_other_head(name); }

  Variable run_encoder(const Tensor& ids, const Tensor& attention_mask, const ForwardContext& context) override {
    return encoder_states(ids, attention_mask, context, "encoder_hidden_states");
  }

  Variable source_keys_values(int64_t layer, const Variable& encoded, const TokenRows& rows) override {
    return rows.column_linear(encoded, {.weight = decoder_.layers[static_cast<size_t>(layer)].cross_kv});
  }

  Variable run_decoder(const ModelInput& input, const Variable& encoded, const ForwardContext& context) override {
    const Tensor& ids = input.decoder_input_ids;
    const TokenRows rows = token_rows(ids, context);
    Variable h = embed(ids, rows, context, kDecoderSites);
    keep_hidden_state(context, h, "decoder_hidden_states");
    const RelativeBias bias = biases(decoder_, ids.size(1), context);
    for (size_t l = 0; l < decoder_.layers.size(); ++l) {
      const T5Layer& layer = decoder_.layers[l];
      const auto number = static_cast<int64_t>(l);
      const uint32_t site = site_of(kDecoderSites, l);
      const SelfAttentionInput masks{input.decoder_attention_mask, {}, {}, rng_stream(context, site + 1), {}, bias};
      h = run_as_layer(context, layer.parameters, [=, this, &layer] {
        const Variable own = self_branch(layer, number, h, masks, /*causal=*/true, rows, context, site);
        Variable q = rows.column_linear(norm(own, layer.cross_norm), {.weight = layer.cross_q});
        Variable mixed =
            attend_source(q, number, attention_settings(false, context), input, encoded, context, site + 5);
        const Variable crossed = close_branch(own, mixed, layer.cross_o_proj, rows, context, site + 4);
        return mlp_branch(layer, crossed, rows, context, site + 2);
      });
      if (l + 1 < decoder_.layers.size()) keep_hidden_state(context, h, "decoder_hidden_states");
    }
    h = drop(norm(h, decoder_.final_norm), config_values_.dropout, context,
             site_of(kDecoderSites, decoder_.layers.size()), rows);
    keep_hidden_state(context, h, "decoder_hidden_states");
    return h;
  }

 private:
  static constexpr const char* kFamily = "T5";

  T5Stack decoder_;
};

/// The encoder alone.
class T5Encoder final : public T5Layers<FamilyModel> {
 public:
  explicit T5Encoder(const JsonReader& reader) : T5Layers(reader, "") {
    const T5Config& c = config_values_;
    info_.architecture = "T5EncoderModel";
    info_.num_layers = c.num_layers;
    info_.matmul_parameters = c.num_layers * layer_matmul_parameters(c, false);
  }

  std::vector<InputSpec> inputs() const override {
    const std::vector<int64_t> tokens = {InputSpec::kBatch, InputSpec::kLength};
    return {{.name = "input_ids", .shape = tokens, .limit = info_.vocab_size, .role = InputSpec::needed},
            {.name = "attention_mask", .shape = tokens, .dtype = DType::u8}};
  }
  Variable hidden(const ModelInput& input, const ForwardContext& context) override {
    ONDOL_CHECK(context.cache == nullptr, "an encoder has no cache");
    const Variable own = encoder_states(input.input_ids, input.attention_mask, context, "hidden_states");
    return token_rows(input.input_ids, context).whole(own);
  }
  NamedOutputs forward(const ModelInput& input, const ForwardContext& context) override {
    return {{"last_hidden_state", hidden(input, context)}};
  }
  std::vector<int64_t> count_targets(const ModelInput&) const override { return {}; }
  std::vector<Variable> losses(const ModelInput&, const std::vector<LossScale>&, const ForwardContext&) override {
    return {};
  }
};

}  // namespace

std::unique_ptr<FamilyModel> make_t5(const JsonReader& config) {
  const auto names = config.get<std::vector<std::string>>("architectures", {});
  const bool encoder = names.size() == 1 && names[0] == "T5EncoderModel";
  if (encoder) return std::make_unique<T5Encoder>(config);
  return std::make_unique<T5>(config);
}

}  // namespace ondol
