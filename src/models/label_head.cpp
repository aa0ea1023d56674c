#include "models/label_head.h"

namespace ondol {

Variable label_scores(const LabelHead& head, const Variable& x, const ForwardContext& context) {
  Variable features = x;
  if (head.dense.weight.defined()) {
    if (head.dropout_first) features = drop(features, head.dropout, context, kHeadSites);
    features = functions::linear(features, {.weight = head.dense.weight, .bias = head.dense.bias});
    features = functions::activation(features, head.activation);
  }
  features = drop(features, head.dropout, context, kHeadSites + 1);
  return functions::linear(features, {.weight = head.out.weight, .bias = head.out.bias});
}

LabelSet read_labels(const JsonReader& config, Head head, ModelInfo& info) {
  LabelSet labels = read_label_set(config);
  info.head = head;
  info.labels = labels.names;
  info.regression = head == Head::sequence_classification && labels.is_regression();
  info.multi_label = labels.problem == LabelSet::Problem::multi_label;
  return labels;
}

std::vector<InputSpec> label_specs(Head head, const LabelSet& labels) {
  if (head == Head::sequence_classification) return sequence_label_specs(labels);
  return {{.name = "labels",
           .shape = {InputSpec::kBatch, InputSpec::kLength},
           .limit = labels.size(),
           .ignorable = true,
           .role = InputSpec::target}};
}

Variable label_loss(Head head, const LabelSet& set, const Variable& scores, const Tensor& labels,
                    const LossScale& scale) {
  if (head == Head::sequence_classification) return sequence_label_loss(set, scores, labels, scale);
  const int64_t classes = scores.shape()[-1];
  const Variable rows = functions::reshape(scores, {scores.value().numel() / classes, classes});
  return functions::cross_entropy(rows, labels.reshape({labels.numel()}), scale);
}

std::string listed_architecture(const JsonReader& config) {
  if (!config.has("architectures")) return "";
  const auto names = config.require<std::vector<std::string>>("architectures");
  return names.empty() ? "" : names.front();
}

Head label_head_of(const JsonReader& config, const std::string& family) {
  const std::string architecture = listed_architecture(config);
  if (architecture == family + "ForSequenceClassification") return Head::sequence_classification;
  return architecture == family + "ForTokenClassification" ? Head::token_classification : Head::none;
}

Variable states_at(const Variable& h, const Tensor& places) {
  return functions::reshape(functions::take_rows(h, places), {h.shape()[0], h.shape()[2]});
}

}  // namespace ondol
