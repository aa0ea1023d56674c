// The parts of BART that its relatives share: embeddings with positions, branches with biases, weight names. A family
// says how positions are made and which norms there are; a class for each order of norm and residual wires the layers.
//
// Legend: B samples, T source positions, S target positions, C hidden size.
#pragma once

#include <deque>
#include <optional>

#include <ondol/nn/self_attention.h>

#include "models/encoder_decoder.h"

namespace ondol {

struct BartConfig {
  int64_t vocab_size = 0, hidden_size = 0, max_positions = 0;
  int64_t encoder_layers = 0, encoder_heads = 0, encoder_intermediate = 0;
  int64_t decoder_layers = 0, decoder_heads = 0, decoder_intermediate = 0;
  float dropout = 0.0f, attention_dropout = 0.0f, activation_dropout = 0.0f, init_std = 0.02f;
  bool scale_embedding = false, tied = true;
  Activation activation = Activation::gelu_erf;
  int64_t padding_idx = -1;  // this token's embedding learns nothing from being read

  BartConfig() = default;
  explicit BartConfig(const JsonReader& config);
};

struct BartAttention {
  Variable norm_weight, norm_bias;
  Variable in_weight, in_bias;  // q, k, v; of cross-attention q alone
  Variable kv_weight, kv_bias;  // cross-attention: k, v of the encoder's states
  Variable o_proj_weight, o_proj_bias;
};

struct BartLayer {
  LayerParameters parameters;
  BartAttention self, cross;  // cross: decoder
  Variable mlp_norm_weight, mlp_norm_bias, up_weight, up_bias, down_weight, down_bias;
};

struct BartStack {
  std::vector<BartLayer> layers;
  Variable tokens;                                      // (V, C)
  Variable positions;                                   // (positions + 2, C); undefined: sinusoids
  Variable embedding_norm_weight, embedding_norm_bias;  // undefined: none
  Variable final_norm_weight, final_norm_bias;          // undefined: none
};

/// Positions without weights: sin(p f_i) for i < C / 2, then cos(p f_i), with f_i = 10000^(-i / divisor), where p
/// counts from `first`.
struct Sinusoids {
  int64_t first = 0;
  double divisor = 1.0;

  /// (count, dim) f32 on the host.
  Tensor table(int64_t count, int64_t dim) const;
};

class BartModel : public EncoderDecoder {
 public:
  std::string base_prefix() const override { return "model."; }
  bool is_buffer(const std::string& name) const override;
  std::string tied_name(const std::string& name) const override;
  OutputProjection output_projection() const override;

 protected:
  BartModel(const JsonReader& reader, const BartConfig& config, const std::string& family = "");

  struct Norms {
    bool of_embeddings = false, final = false;
  };
  /// Registers all weights under the names of BartForConditionalGeneration (or ...ForSequenceClassification); learned
  /// positions unless there are sinusoids.
  void add_bart_weights(const Norms& norms);

  /// Embeddings, layers, final norm.
  Variable run_encoder(const Tensor& ids, const Tensor& attention_mask, const ForwardContext& context) override;
  Variable run_decoder(const ModelInput& input, const Variable& encoded, const ForwardContext& context) override;
  Variable source_keys_values(int64_t layer, const Variable& encoded, const TokenRows& rows) override;

  /// How a layer goes through its branches. `site` is its first number for dropout.
  struct LayerCall {
    const BartLayer& layer;
    int64_t number;
    bool decoder;
    const ModelInput& input;
    const Variable& encoded;
    const ForwardContext& context;
    uint32_t site;
  };
  virtual Variable run_layer(const LayerCall& call, const Variable& h) = 0;

  // Branches: residual + dropout(branch(x)).
  Variable self_branch(const LayerCall& call, const Variable& x, const Variable& residual);
  Variable cross_branch(const LayerCall& call, const Variable& x, const Variable& residual);
  Variable mlp_branch(const LayerCall& call, const Variable& x, const Variable& residual);
  Variable norm(const Variable& x, const Variable& weight, const Variable& bias);

  const BartConfig config_values_;
  BartStack encoder_, decoder_;
  std::optional<Sinusoids> sinusoids_;  // set by families without learned positions
  Variable final_logits_bias_;          // (1, V), not trained; may be undefined

 private:
  Variable embed(const BartStack& stack, const Tensor& ids, const ForwardContext& context, uint32_t site);
  const Tensor& sinusoid_table(int64_t rows);
  Variable position_vectors(const BartStack& stack, int64_t length, const ForwardContext& context);
  void add_stack(const std::string& name, bool decoder, const Norms& norms, BartStack& stack);
  BartAttention add_attention(const std::string& name, bool cross);
  Variable close_branch(const LayerCall& call, const Variable& x, const Variable& weight, const Variable& bias,
                        const Variable& residual, uint32_t site);
  SelfAttentionSettings settings(const LayerCall& call, bool causal) const;

  Tensor position_ids_;                 // (max_positions + 2) i32 on the device: 0, 1, 2, ...
  std::deque<Tensor> sinusoid_tables_;  // growing; earlier ones stay, captured steps read them
};

/// h = norm(h + branch(h)), as in the first Transformer.
class PostNormBart : public BartModel {
 protected:
  using BartModel::BartModel;
  Variable run_layer(const LayerCall& call, const Variable& h) override;
};

/// h = h + branch(norm(h)), with a norm at the end of each stack.
class PreNormBart : public BartModel {
 protected:
  using BartModel::BartModel;
  Variable run_layer(const LayerCall& call, const Variable& h) override;
};

}  // namespace ondol
