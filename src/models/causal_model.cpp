#include "models/causal_model.h"

#include <algorithm>

#include <ondol/autograd/functions.h>

namespace ondol {

namespace {

/// labels[b, t] becomes labels[b, t + 1], the last column kIgnoreIndex: the target of each position.
Tensor shift_labels(const Tensor& labels) {
  const Tensor shifted = Tensor::full(labels.shape(), kIgnoreIndex, DType::i32, labels.device());
  const int64_t length = labels.size(1);
  if (length > 1) shifted.narrow(1, 0, length - 1).copy_from(labels.narrow(1, 1, length - 1));
  return shifted;
}

}  // namespace

int64_t count_labels(const Tensor& labels) {
  if (!labels.defined()) return 0;
  const Tensor flat = labels.contiguous();
  const int32_t* values = flat.data<int32_t>();
  return flat.numel() - std::count(values, values + flat.numel(), kIgnoreIndex);
}

CausalModel::CausalModel(const JsonReader& config) : FamilyModel(config) { info_.head = Head::causal_language_model; }

std::vector<InputSpec> CausalModel::inputs() const {
  const std::vector<int64_t> tokens = {InputSpec::kBatch, InputSpec::kLength};
  const int64_t vocabulary = info_.vocab_size;
  return {
      {.name = "input_ids", .shape = tokens, .limit = vocabulary, .role = InputSpec::needed},
      {.name = "attention_mask", .shape = tokens, .dtype = DType::u8},
      {.name = "position_ids", .shape = tokens, .limit = info_.max_positions},
      {.name = "labels", .shape = tokens, .limit = vocabulary, .ignorable = true, .role = InputSpec::target},
  };
}

ModelInput CausalModel::complete(ModelInput input) const {
  if (input.labels.defined() && !input.labels_shifted) {
    input.labels = shift_labels(input.labels);
    input.labels_shifted = true;
  }
  return input;
}

NamedOutputs CausalModel::forward(const ModelInput& input, const ForwardContext& context) {
  const Variable h = hidden(input, context);
  return {{"logits", functions::linear(h, {.weight = output_.weight, .bias = output_.bias})}, {"last_hidden_state", h}};
}

TokenPredictions CausalModel::predict_tokens(const ModelInput& input, const ForwardContext& context) {
  const Variable h = hidden(input, context);
  return {h, h, output_};
}

std::vector<int64_t> CausalModel::count_targets(const ModelInput& prepared) const {
  return {count_labels(prepared.labels)};
}

std::vector<Variable> CausalModel::losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                                          const ForwardContext& context) {
  if (!prepared.labels.defined()) return {Variable()};
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = output_.weight;
  inputs.bias = output_.bias;
  inputs.scale = scales.at(0);
  return {functions::linear_cross_entropy(hidden(prepared, context), prepared.labels, inputs)};
}

}  // namespace ondol
