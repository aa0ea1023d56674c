// DistilBERT (Sanh et al. 2019; DistilBertModel and its heads): BERT without token types and pooler, half as deep.
//
// No dropout behind the attention's projection; the epsilon of all norms is 1e-12.
#include "models/encoder_model.h"

namespace ondol {

namespace {

EncoderSettings read_settings(const JsonReader& c) {
  EncoderSettings s;
  s.vocab_size = c.get<int64_t>("vocab_size", 30522, between(1, 1 << 28));
  s.hidden_size = c.get<int64_t>("dim", 768, between(1, 1 << 20));
  s.num_layers = c.get<int64_t>("n_layers", 6, between(1, 10000));
  s.num_heads = c.get<int64_t>("n_heads", 12, between(1, 1 << 16));
  s.intermediate_size = c.get<int64_t>("hidden_dim", 4 * 768, between(1, 1 << 24));
  s.position_rows = c.get<int64_t>("max_position_embeddings", 512, between(1, 1 << 28));
  s.norm_eps = 1e-12f;
  s.initializer_range = c.get<float>("initializer_range", 0.02f, at_least(0.0));
  s.hidden_dropout = c.get<float>("dropout", 0.1f, half_open(0.0, 1.0));
  s.attention_dropout = c.get<float>("attention_dropout", 0.1f, half_open(0.0, 1.0));
  s.activation = read_activation(c, "activation", "gelu");
  s.tied = c.get<bool>("tie_word_embeddings", true);
  return s;
}

EncoderLayerNames layer_names(const std::string& p) {
  return {p + "attention.q_lin", p + "attention.k_lin", p + "attention.v_lin", p + "attention.out_lin",
          p + "sa_layer_norm",   p + "ffn.lin1",        p + "ffn.lin2",        p + "output_layer_norm"};
}

class DistilBert final : public EncoderModel {
 public:
  explicit DistilBert(const JsonReader& config) : EncoderModel(config, read_settings(config)) {
    read_architecture(config, {{"DistilBertForMaskedLM", Head::masked_language_model},
                               {"DistilBertModel", Head::none},
                               {"DistilBertForSequenceClassification", Head::sequence_classification},
                               {"DistilBertForTokenClassification", Head::token_classification},
                               {"DistilBertForQuestionAnswering", Head::question_answering}});
    if (!config.object().contains("pad_token_id")) info_.pad_token_id = 0;
    const std::string p = info_.head == Head::none ? "" : "distilbert.";
    const int64_t hidden = info_.hidden_size;

    add_embeddings(p + "embeddings.");
    for (int64_t l = 0; l < info_.num_layers; ++l) add_layer(layer_names(concat(p, "transformer.layer.", l, ".")));
    if (info_.head == Head::masked_language_model) {
      MaskedLmHead head;
      head.transform = add_dense("vocab_transform", hidden, hidden);
      head.activation = settings_.activation;
      head.norm = add_norm("vocab_layer_norm", hidden);
      head.output = add_vocabulary_projection("vocab_projector", "vocab_projector.bias", hidden);
      lm_head_ = head;
    } else if (info_.head == Head::sequence_classification) {
      LabelHead head;
      head.dense = add_dense("pre_classifier", hidden, hidden);
      head.activation = Activation::relu;
      head.dropout_first = false;
      head.out = add_dense("classifier", head_outputs(), hidden);
      head.dropout = config.get<float>("seq_classif_dropout", 0.2f, half_open(0.0, 1.0));
      label_head_ = head;
    } else if (info_.head != Head::none) {
      add_plain_label_head(settings_.hidden_dropout, config.get<float>("qa_dropout", 0.1f, half_open(0.0, 1.0)));
    }
  }

  std::string base_prefix() const override { return "distilbert."; }
};

}  // namespace

std::unique_ptr<FamilyModel> make_distilbert(const JsonReader& config) { return std::make_unique<DistilBert>(config); }

}  // namespace ondol
