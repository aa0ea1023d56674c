// BERT (Devlin et al. 2019; BertModel and its heads): learned positions, token types, erf GELU.
//
//   pooled = tanh(pooler h[0]);  next sentence = seq_relationship pooled
//   logits = norm(act(transform h)) words^T + bias
#include "models/encoder_model.h"

namespace ondol {

namespace {

class Bert final : public EncoderModel {
 public:
  explicit Bert(const JsonReader& config) : EncoderModel(config, read_bert_settings(config, bert_defaults())) {
    read_architecture(config, {{"BertForPreTraining", Head::masked_language_model},
                               {"BertModel", Head::none},
                               {"BertForMaskedLM", Head::masked_language_model},
                               {"BertForSequenceClassification", Head::sequence_classification},
                               {"BertForTokenClassification", Head::token_classification},
                               {"BertForQuestionAnswering", Head::question_answering}});
    if (!config.object().contains("pad_token_id")) info_.pad_token_id = 0;
    const bool pretraining = info_.architecture == "BertForPreTraining";
    const bool pooled = pretraining || info_.head == Head::none || info_.head == Head::sequence_classification;
    const std::string p = info_.head == Head::none ? "" : "bert.";
    const int64_t hidden = info_.hidden_size;

    add_embeddings(p + "embeddings.");
    for (int64_t l = 0; l < info_.num_layers; ++l) add_layer(bert_layer_names(concat(p, "encoder.layer.", l, ".")));
    if (pooled) pooler_ = add_dense(p + "pooler.dense", hidden, hidden);
    if (info_.head == Head::masked_language_model) {
      MaskedLmHead head;
      head.transform = add_dense("cls.predictions.transform.dense", hidden, hidden);
      head.activation = settings_.activation;
      head.norm = add_norm("cls.predictions.transform.LayerNorm", hidden);
      head.output = add_vocabulary_projection("cls.predictions.decoder", "cls.predictions.bias", hidden);
      lm_head_ = head;
      if (pretraining) next_sentence_ = add_dense("cls.seq_relationship", 2, hidden);
    } else if (info_.head != Head::none) {
      add_plain_label_head(settings_.label_dropout, 0.0f);
    }
  }

  std::string base_prefix() const override { return "bert."; }

  /// Files of the first years.
  std::string canonical_name(const std::string& name) const override {
    if (name.ends_with("LayerNorm.gamma")) return name.substr(0, name.size() - 5) + "weight";
    if (name.ends_with("LayerNorm.beta")) return name.substr(0, name.size() - 4) + "bias";
    return name;
  }
};

}  // namespace

std::unique_ptr<FamilyModel> make_bert(const JsonReader& config) { return std::make_unique<Bert>(config); }

}  // namespace ondol
