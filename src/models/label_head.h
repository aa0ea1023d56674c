// Heads for labels: scores of sequences, tokens and answers from hidden states, and the losses of labels.
//
//   labels_ = read_labels(config, Head::sequence_classification, info_);
//   LabelHead head;  head.out = {weight, bias};
//   Variable scores = label_scores(head, states, context);                      // (B, n)
//   Variable loss = label_loss(info_.head, labels_, scores, prepared.labels, scale);
#pragma once

#include <string>
#include <vector>

#include "models/input.h"
#include "models/label_set.h"

namespace ondol {

/// Where the numbers of the heads' dropout sites begin: behind those of the layers of all stacks and of adapters.
inline constexpr uint32_t kHeadSites = 3u << 14;

/// Scores for labels: out(act(dense x)), or out(x). Dropout goes before each product that it is meant for.
struct LabelHead {
  Dense dense;  // may be undefined
  Activation activation = Activation::tanh;
  bool dropout_first = true;  // before `dense` too
  Dense out;
  float dropout = 0.0f;
};

/// x (.., C) -> (.., n).
Variable label_scores(const LabelHead& head, const Variable& x, const ForwardContext& context);

/// The labels of a configuration for sequence_classification or token_classification; writes what `info` says of them.
LabelSet read_labels(const JsonReader& config, Head head, ModelInfo& info);

/// The forms that "labels" may have: those of sequences, or one for each token (B, T).
std::vector<InputSpec> label_specs(Head head, const LabelSet& labels);

/// scores (B, n) of sequences, or (B, T, n) of tokens.
Variable label_loss(Head head, const LabelSet& set, const Variable& scores, const Tensor& labels,
                    const LossScale& scale);

/// The first of the configuration's "architectures", "" for none.
std::string listed_architecture(const JsonReader& config);

/// sequence_classification or token_classification when the architecture is `family` + "ForSequenceClassification" or
/// "ForTokenClassification", else none.
Head label_head_of(const JsonReader& config, const std::string& family);

/// h (B, T, C) at a place of each row, (B, 1) i32: (B, C).
Variable states_at(const Variable& h, const Tensor& places);

}  // namespace ondol
