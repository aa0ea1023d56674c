// Decoders: language models that predict the next token, or the same stack with a head for labels of sequences or of
// tokens. What is the same for all of them; a family derives from it, wires own_hidden() and calls add_head() at the
// end of its constructor.
//
// A sequence is told by the state of its last token, the rightmost one that is not pad_token_id (in batches without
// such a token: the last one that attention_mask shows).
#pragma once

#include <optional>

#include <ondol/nn/tensor_parallel.h>

#include "models/family.h"
#include "models/label_head.h"

namespace ondol {

class CausalModel : public FamilyModel {
 public:
  std::vector<InputSpec> inputs() const override;
  void set_bidirectional_prefix(bool on) override;
  Variable hidden(const ModelInput& input, const ForwardContext& context) final;
  NamedOutputs forward(const ModelInput& input, const ForwardContext& context) override;
  std::vector<int64_t> count_targets(const ModelInput& prepared) const override;
  std::vector<Variable> losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                               const ForwardContext& context) override;
  OutputProjection output_projection() const override;
  TokenPredictions predict_tokens(const ModelInput& input, const ForwardContext& context) override;

 protected:
  /// What transformers calls the head's parts.
  struct Names {
    std::string family;          // "GPT2" of GPT2ForSequenceClassification
    std::string language_model;  // "GPT2LMHeadModel"
    std::string token_scores;    // "classifier", "score"
  };
  CausalModel(const JsonReader& config, Names names);

  /// hidden() of the own rows of tokens; without tensor parallelism they are all tokens.
  virtual Variable own_hidden(const ModelInput& input, const TokenRows& rows, const ForwardContext& context) = 0;
  ModelInput complete(ModelInput input) const override;

  /// The output projection, tied to the embedding or not, or the head for labels.
  void add_head(const Variable& embedding, bool tied, const Init& init);
  /// A weight of heads that this architecture has not: a new head leaves the old one's in the file.
  bool is_other_head(const std::string& name) const;

 private:
  Variable head_scores(const Variable& h, const ModelInput& input, const ForwardContext& context) const;
  ModelInput find_last_tokens(ModelInput input) const;

  const Names names_;
  OutputProjection output_;
  LabelSet labels_;
  std::optional<LabelHead> label_head_;
};

/// Labels (i32) other than kIgnoreIndex; 0 when there are none. On the host.
int64_t count_labels(const Tensor& labels);

}  // namespace ondol
