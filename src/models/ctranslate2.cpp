// Transformers for translation (Vaswani et al. 2017) in the form with the norm at the beginning of each branch, under
// the weight names of CTranslate2, with a vocabulary for each side: sinusoidal positions, ReLU, an output of its own.
//
//   h = tokens[ids] sqrt(C) + sinusoids[p + 1]
//   h = h + branch(norm(h)) for self-attention, cross-attention (decoder) and linear_1(relu(linear_0)), per layer
//   logits = norm(h) projection^T + bias
//
// q, k, v of self-attention and k, v of cross-attention are one tensor in files, too. The configuration describes the
// architecture ("d_model", "num_heads", "d_ff", ...) and has no model_type.
#include "models/bart_model.h"

namespace ondol {

namespace {

BartConfig read_settings(const JsonReader& c) {
  BartConfig s;
  s.hidden_size = c.require<int64_t>("d_model", between(4, 1 << 20));
  s.encoder_heads = s.decoder_heads = c.require<int64_t>("num_heads", between(1, 1 << 16));
  s.encoder_intermediate = s.decoder_intermediate = c.require<int64_t>("d_ff", between(1, 1 << 24));
  s.encoder_layers = c.require<int64_t>("encoder_layers", between(1, 10000));
  s.decoder_layers = c.require<int64_t>("decoder_layers", between(1, 10000));
  s.vocab_size = c.require<int64_t>("target_vocab", between(1, 1 << 28));
  s.max_positions = c.get<int64_t>("max_positions", 1024, between(1, 1 << 28));
  s.activation = read_activation(c, "activation", "relu");
  s.init_std = c.get<float>("init_std", 0.02f, at_least(0.0));
  s.dropout = c.get<float>("dropout", 0.0f, half_open(0.0, 1.0));
  s.scale_embedding = true;
  s.tied = false;
  if (s.hidden_size % s.encoder_heads != 0) {
    c.fail("num_heads", concat(s.encoder_heads, " heads do not divide the hidden size ", s.hidden_size));
  }
  if (s.hidden_size % 2 != 0) c.fail("d_model", "must be even");
  return s;
}

class Ctranslate2 final : public PreNormBart {
 public:
  explicit Ctranslate2(const JsonReader& reader) : PreNormBart(reader, read_settings(reader)) {
    const BartConfig& c = config_values_;
    info_.architecture = "TransformerModel";
    info_.source_vocab_size = reader.require<int64_t>("source_vocab", between(1, 1 << 28));
    const JsonReader ids = reader.require_child("ids");
    info_.pad_token_id = ids.get<int32_t>("<blank>", 0, at_least(0));
    info_.decoder_start_token_id = ids.require<int32_t>("<s>", at_least(0));
    info_.eos_token_ids = {ids.require<int32_t>("</s>", at_least(0))};
    sinusoids_ = Sinusoids{.first = 1, .divisor = static_cast<double>(c.hidden_size / 2 - 1)};
    const Init normal = Init::normal(c.init_std);
    encoder_.tokens = add_weight("encoder.embeddings.weight", {info_.source_vocab_size, c.hidden_size}, normal);
    add_layers("encoder.", false, encoder_);
    decoder_.tokens = add_weight("decoder.embeddings.weight", {c.vocab_size, c.hidden_size}, normal);
    add_layers("decoder.", true, decoder_);
    output_.weight = add_weight("decoder.projection.weight", {c.vocab_size, c.hidden_size}, normal);
    output_.bias = add_weight("decoder.projection.bias", {c.vocab_size}, Init::zeros());
  }

  std::string base_prefix() const override { return ""; }
  bool is_buffer(const std::string&) const override { return false; }
  std::string tied_name(const std::string&) const override { return ""; }

 private:
  void add_linear(const std::string& name, int64_t rows, int64_t columns, Variable& weight, Variable& bias) {
    weight = add_weight(name + ".weight", {rows, columns}, Init::normal(config_values_.init_std));
    bias = add_weight(name + ".bias", {rows}, Init::zeros());
  }

  void add_norm(const std::string& name, Variable& weight, Variable& bias) {
    weight = add_weight(name + ".layer_norm.gamma", {config_values_.hidden_size}, Init::ones());
    bias = add_weight(name + ".layer_norm.beta", {config_values_.hidden_size}, Init::zeros());
  }

  void add_layers(const std::string& name, bool decoder, BartStack& stack) {
    const BartConfig& c = config_values_;
    const int64_t hidden = c.hidden_size;
    for (int64_t l = 0; l < (decoder ? c.decoder_layers : c.encoder_layers); ++l) {
      const std::string p = concat(name, "layer_", l, ".");
      BartLayer layer;
      BartAttention& self = layer.self;
      add_norm(p + "self_attention", self.norm_weight, self.norm_bias);
      add_linear(p + "self_attention.linear_0", 3 * hidden, hidden, self.in_weight, self.in_bias);
      add_linear(p + "self_attention.linear_1", hidden, hidden, self.o_proj_weight, self.o_proj_bias);
      if (decoder) {
        BartAttention& cross = layer.cross;
        add_norm(p + "attention", cross.norm_weight, cross.norm_bias);
        add_linear(p + "attention.linear_0", hidden, hidden, cross.in_weight, cross.in_bias);
        add_linear(p + "attention.linear_1", 2 * hidden, hidden, cross.kv_weight, cross.kv_bias);
        add_linear(p + "attention.linear_2", hidden, hidden, cross.o_proj_weight, cross.o_proj_bias);
      }
      add_norm(p + "ffn", layer.mlp_norm_weight, layer.mlp_norm_bias);
      add_linear(p + "ffn.linear_0", c.encoder_intermediate, hidden, layer.up_weight, layer.up_bias);
      add_linear(p + "ffn.linear_1", hidden, c.encoder_intermediate, layer.down_weight, layer.down_bias);
      stack.layers.push_back(layer);
    }
    stack.final_norm_weight = add_weight(name + "layer_norm.gamma", {hidden}, Init::ones());
    stack.final_norm_bias = add_weight(name + "layer_norm.beta", {hidden}, Init::zeros());
  }
};

}  // namespace

std::unique_ptr<FamilyModel> make_ctranslate2(const JsonReader& config) {
  return std::make_unique<Ctranslate2>(config);
}

}  // namespace ondol
