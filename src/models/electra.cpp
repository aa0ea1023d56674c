// ELECTRA (Clark et al. 2020; ElectraModel and its heads): BERT with embeddings of a size of their own, trained as a
// generator (masked tokens) or as a discriminator, which tells for each token whether it was replaced.
//
//   discriminator: score[t] = dense_prediction act(dense h[t]), sigmoid; over all tokens that are no padding
//   generator: logits = norm(gelu(dense h)) words^T + bias, of the embeddings' size
#include "models/encoder_model.h"

namespace ondol {

namespace {

EncoderSettings read_settings(const JsonReader& config) {
  EncoderSettings defaults = bert_defaults();
  defaults.hidden_size = 256;
  defaults.num_heads = 4;
  defaults.intermediate_size = 1024;
  defaults.embedding_size = config.get<int64_t>("embedding_size", 128, between(1, 1 << 20));
  return read_bert_settings(config, defaults);
}

class Electra final : public EncoderModel {
 public:
  explicit Electra(const JsonReader& config) : EncoderModel(config, read_settings(config)) {
    read_architecture(config, {{"ElectraForPreTraining", Head::replaced_token_detection},
                               {"ElectraModel", Head::none},
                               {"ElectraForMaskedLM", Head::masked_language_model},
                               {"ElectraForSequenceClassification", Head::sequence_classification},
                               {"ElectraForTokenClassification", Head::token_classification},
                               {"ElectraForQuestionAnswering", Head::question_answering}});
    if (!config.object().contains("pad_token_id")) info_.pad_token_id = 0;
    const std::string p = info_.head == Head::none ? "" : "electra.";
    const int64_t hidden = info_.hidden_size, width = settings_.embedding_width();

    add_embeddings(p + "embeddings.");
    if (width != hidden) embedding_projection_ = add_dense(p + "embeddings_project", hidden, width);
    for (int64_t l = 0; l < info_.num_layers; ++l) add_layer(bert_layer_names(concat(p, "encoder.layer.", l, ".")));
    add_head(hidden, width);
  }

  std::string base_prefix() const override { return "electra."; }

 private:
  void add_head(int64_t hidden, int64_t width) {
    if (info_.head == Head::masked_language_model) {
      MaskedLmHead head;
      head.transform = add_dense("generator_predictions.dense", width, hidden);
      head.activation = Activation::gelu_erf;
      head.norm = add_norm("generator_predictions.LayerNorm", width);
      head.output = add_vocabulary_projection("generator_lm_head", "generator_lm_head.bias", width);
      lm_head_ = head;
    } else if (info_.head == Head::replaced_token_detection) {
      LabelHead head;
      head.dense = add_dense("discriminator_predictions.dense", hidden, hidden);
      head.activation = settings_.activation;
      head.out = add_dense("discriminator_predictions.dense_prediction", 1, hidden);
      label_head_ = head;
    } else if (info_.head == Head::sequence_classification) {
      LabelHead head;
      head.dense = add_dense("classifier.dense", hidden, hidden);
      head.activation = Activation::gelu_erf;
      head.out = add_dense("classifier.out_proj", head_outputs(), hidden);
      head.dropout = settings_.label_dropout;
      label_head_ = head;
    } else if (info_.head != Head::none) {
      add_plain_label_head(settings_.label_dropout, 0.0f);
    }
  }
};

}  // namespace

std::unique_ptr<FamilyModel> make_electra(const JsonReader& config) { return std::make_unique<Electra>(config); }

}  // namespace ondol
