// Encoders in the manner of BERT (Devlin et al. 2019): self-attention in both directions, a layer norm behind each
// residual sum, and a head. What the families have in common; each brings its configuration, its names and its quirks.
//
//   h = dropout(norm(words[ids] + positions[t] + token_types[type]))       ELECTRA: then project h from E to C
//   h = norm(h + o_proj(attention(q_proj h, k_proj h, v_proj h)));  h = norm(h + down_proj(act(up_proj h)))   per layer
//
// Legend: B samples, T positions, C hidden size, E embedding size, V vocabulary, n labels.
#pragma once

#include <optional>

#include "models/family.h"
#include "models/input.h"
#include "models/label_head.h"

namespace ondol {

struct EncoderSettings {
  int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, num_heads = 0, intermediate_size = 0;
  int64_t embedding_size = 0;  // ELECTRA; 0: hidden_size
  int64_t position_rows = 0;   // of the position embedding
  int64_t token_types = 0;     // 0: the family takes no token_type_ids
  float norm_eps = 1e-12f, initializer_range = 0.02f;
  float hidden_dropout = 0.0f, attention_dropout = 0.0f, attention_output_dropout = 0.0f;
  float label_dropout = 0.0f;  // of heads that classify
  Activation activation = Activation::gelu_erf;
  /// RoBERTa numbers tokens from padding + 1 and leaves out those that are padding.
  std::optional<int32_t> position_padding;
  bool tied = true;  // the output projection is the word embedding

  int64_t embedding_width() const { return embedding_size > 0 ? embedding_size : hidden_size; }
};

/// BERT's values of keys that are not there.
EncoderSettings bert_defaults();
/// The keys that BERT, RoBERTa and ELECTRA share; `defaults` holds the values of keys that are not there.
EncoderSettings read_bert_settings(const JsonReader& config, EncoderSettings defaults);

struct Norm {
  Variable weight, bias;  // (C)
};

/// Names of the tensors of a layer, without ".weight" and ".bias".
struct EncoderLayerNames {
  std::string query, key, value, attention_output, attention_norm, up, down, output_norm;
};
/// Those of BERT below "bert.encoder.layer.0." and the like.
EncoderLayerNames bert_layer_names(const std::string& prefix);

/// Scores for each token of the vocabulary: norm(act(dense h)), then the output projection.
struct MaskedLmHead {
  Dense transform;
  Activation activation = Activation::gelu_erf;
  Norm norm;
  OutputProjection output;
};

class EncoderModel : public FamilyModel {
 public:
  std::vector<InputSpec> inputs() const override;
  Variable hidden(const ModelInput& input, const ForwardContext& context) override;
  NamedOutputs forward(const ModelInput& input, const ForwardContext& context) override;
  TokenPredictions predict_tokens(const ModelInput& input, const ForwardContext& context) override;
  std::vector<int64_t> count_targets(const ModelInput& prepared) const override;
  std::vector<Variable> losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                               const ForwardContext& context) override;

 protected:
  EncoderModel(const JsonReader& config, const EncoderSettings& settings);
  ModelInput complete(ModelInput input) const override;
  void check_tensor_ranks(int ranks) const override;

  /// The head that one of the architectures of a family stands for, from the config's "architectures".
  struct Architecture {
    const char* name;
    Head head;
  };
  void read_architecture(const JsonReader& config, const std::vector<Architecture>& known);

  Dense add_dense(const std::string& name, int64_t outputs, int64_t inputs);
  Norm add_norm(const std::string& name, int64_t size);
  /// word_embeddings, position_embeddings, token_type_embeddings and LayerNorm below a prefix.
  void add_embeddings(const std::string& prefix);
  void add_layer(const EncoderLayerNames& names);
  /// The product that ends a masked language model's head. `bias` is the name of its bias in files; an untied head has
  /// the bias `decoder`.bias, and then `bias`, where it is another one, takes no part (as in transformers).
  OutputProjection add_vocabulary_projection(const std::string& decoder, const std::string& bias, int64_t width);
  /// The head of one product, "classifier" or, of answers, "qa_outputs", with these dropouts before it.
  void add_plain_label_head(float dropout, float answer_dropout);
  int64_t head_outputs() const;  // of LabelHead::out

  std::string tied_name(const std::string& name) const override;
  std::string alternative_name(const std::string& name) const override;
  bool is_buffer(const std::string& name) const override;

  Init normal_init() const { return Init::normal(settings_.initializer_range); }
  int64_t padding_id() const { return info_.pad_token_id.value_or(-1); }

  const EncoderSettings settings_;
  LabelSet labels_;
  std::optional<MaskedLmHead> lm_head_;
  std::optional<LabelHead> label_head_;  // of sequences, tokens, answers, replaced tokens
  Dense pooler_;                         // tanh of the first position's hidden state; may be undefined
  Dense next_sentence_;                  // may be undefined
  Dense embedding_projection_;           // may be undefined

 private:
  struct Embeddings {
    Variable words, positions, token_types;  // (V, E), (rows, E), (types, E) or undefined
    Norm norm;
  };
  struct Layer {
    LayerParameters parameters;
    Dense qkv, o_proj, up_proj, down_proj;
    Norm attention_norm, output_norm;
  };
  static void gather_targets(ModelInput& input);
  /// hidden() of the own rows of tokens.
  Variable own_hidden(const ModelInput& input, const TokenRows& rows, const ForwardContext& context);
  Variable embed(const ModelInput& input, const TokenRows& rows, const ForwardContext& context) const;
  Variable run_layer(size_t l, const Variable& h, const ModelInput& input, const TokenRows& rows,
                     const ForwardContext& context);
  Variable masked_loss(const Variable& own, const Variable& whole, const ModelInput& prepared, const TokenRows& rows,
                       const LossScale& scale) const;
  Variable first_positions(const Variable& h, const ModelInput& input) const;
  Variable pool(const Variable& h, const ModelInput& input) const;
  Variable transform(const Variable& h) const;
  /// Scores of the label head where the architecture has it: (B, n), (B, T, n), (B, T).
  Variable head_scores(const Variable& h, const Variable& pooled, const ModelInput& input,
                       const ForwardContext& context) const;

  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::string words_name_, decoder_name_, bias_name_;  // of the tied weights
};

}  // namespace ondol
