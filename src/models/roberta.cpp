// RoBERTa (Liu et al. 2019; RobertaModel and its heads): BERT with positions that start behind the padding id, one
// token type, and heads of its own names.
#include "models/encoder_model.h"

namespace ondol {

namespace {

EncoderSettings read_settings(const JsonReader& config) {
  EncoderSettings defaults = bert_defaults();
  defaults.vocab_size = 50265;
  defaults.position_padding = config.get<int32_t>("pad_token_id", 1, at_least(0));
  return read_bert_settings(config, defaults);
}

class Roberta final : public EncoderModel {
 public:
  explicit Roberta(const JsonReader& config) : EncoderModel(config, read_settings(config)) {
    read_architecture(config, {{"RobertaForMaskedLM", Head::masked_language_model},
                               {"RobertaModel", Head::none},
                               {"RobertaForSequenceClassification", Head::sequence_classification},
                               {"RobertaForTokenClassification", Head::token_classification},
                               {"RobertaForQuestionAnswering", Head::question_answering}});
    info_.pad_token_id = settings_.position_padding;
    const std::string p = info_.head == Head::none ? "" : "roberta.";
    const int64_t hidden = info_.hidden_size;

    add_embeddings(p + "embeddings.");
    for (int64_t l = 0; l < info_.num_layers; ++l) add_layer(bert_layer_names(concat(p, "encoder.layer.", l, ".")));
    if (info_.head == Head::none) pooler_ = add_dense("pooler.dense", hidden, hidden);
    if (info_.head == Head::masked_language_model) {
      MaskedLmHead head;
      head.transform = add_dense("lm_head.dense", hidden, hidden);
      head.activation = Activation::gelu_erf;
      head.norm = add_norm("lm_head.layer_norm", hidden);
      head.output = add_vocabulary_projection("lm_head.decoder", "lm_head.bias", hidden);
      lm_head_ = head;
    } else if (info_.head == Head::sequence_classification) {
      LabelHead head;
      head.dense = add_dense("classifier.dense", hidden, hidden);
      head.activation = Activation::tanh;
      head.out = add_dense("classifier.out_proj", head_outputs(), hidden);
      head.dropout = settings_.label_dropout;
      label_head_ = head;
    } else if (info_.head != Head::none) {
      add_plain_label_head(settings_.label_dropout, 0.0f);
    }
  }

  std::string base_prefix() const override { return "roberta."; }
};

}  // namespace

std::unique_ptr<FamilyModel> make_roberta(const JsonReader& config) { return std::make_unique<Roberta>(config); }

}  // namespace ondol
