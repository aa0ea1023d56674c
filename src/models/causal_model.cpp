#include "models/causal_model.h"

#include <algorithm>

#include <ondol/autograd/functions.h>

#include "models/prefix.h"

namespace ondol {

namespace {

constexpr const char* kPrefixKey = "bidirectional_prefix";  // of config.json, this project's own

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

CausalModel::CausalModel(const JsonReader& config, Names names) : FamilyModel(config), names_(std::move(names)) {
  info_.architecture = names_.language_model;
  info_.head = Head::causal_language_model;
  info_.bidirectional_prefix = config.get<bool>(kPrefixKey, false);
  const Head wanted = label_head_of(config, names_.family);
  if (wanted == Head::none) return;
  info_.architecture = listed_architecture(config);
  labels_ = read_labels(config, wanted, info_);
  label_head_ = LabelHead();
  if (wanted == Head::token_classification) {
    const JsonRange range = half_open(0.0, 1.0);
    label_head_->dropout =
        config.get<float>("classifier_dropout", config.get<float>("hidden_dropout", 0.1f, range), range);
  }
}

void CausalModel::set_bidirectional_prefix(bool on) {
  if (label_head_) return Model::set_bidirectional_prefix(on);
  info_.bidirectional_prefix = on;
  if (on) {
    config_[kPrefixKey] = true;
  } else {
    config_.erase(kPrefixKey);
  }
}

void CausalModel::add_head(const Variable& embedding, bool tied, const Init& init) {
  const int64_t hidden = info_.hidden_size;
  if (!label_head_) {
    info_.matmul_parameters += info_.vocab_size * hidden;
    output_.weight = tied ? embedding : add_weight("lm_head.weight", {info_.vocab_size, hidden}, init);
    return;
  }
  const bool of_tokens = info_.head == Head::token_classification;
  const std::string name = of_tokens ? names_.token_scores : "score";
  label_head_->out.weight = add_weight(name + ".weight", {labels_.size(), hidden}, init);
  if (of_tokens) label_head_->out.bias = add_weight(name + ".bias", {labels_.size()}, Init::zeros());
}

bool CausalModel::is_other_head(const std::string& name) const {
  return label_head_ && (name.starts_with("lm_head.") || name.starts_with("score.") || name.starts_with("classifier."));
}

OutputProjection CausalModel::output_projection() const {
  return label_head_ ? FamilyModel::output_projection() : output_;
}

std::vector<InputSpec> CausalModel::inputs() const {
  const std::vector<int64_t> tokens = {InputSpec::kBatch, InputSpec::kLength};
  const int64_t vocabulary = info_.vocab_size;
  std::vector<InputSpec> specs = {
      {.name = "input_ids", .shape = tokens, .limit = vocabulary, .role = InputSpec::needed},
      {.name = "attention_mask", .shape = tokens, .dtype = DType::u8},
      {.name = "position_ids", .shape = tokens, .limit = info_.max_positions},
      {.name = "prefix_ends", .shape = tokens, .limit = info_.max_positions + 1},
  };
  if (label_head_) {
    for (const InputSpec& spec : label_specs(info_.head, labels_)) specs.push_back(spec);
  } else {
    specs.push_back(
        {.name = "labels", .shape = tokens, .limit = vocabulary, .ignorable = true, .role = InputSpec::target});
  }
  return specs;
}

/// Sets target_positions (B, 1). A row of nothing but padding is told by its first token.
ModelInput CausalModel::find_last_tokens(ModelInput input) const {
  const int64_t batch = input.input_ids.size(0), length = input.input_ids.size(1);
  const std::vector<int32_t> ids = input.input_ids.to_vector<int32_t>();
  std::vector<uint8_t> mask;
  if (!info_.pad_token_id && input.attention_mask.defined()) mask = input.attention_mask.to_vector<uint8_t>();
  std::vector<int32_t> last;
  for (int64_t b = 0; b < batch; ++b) {
    int64_t t = length - 1;
    const auto counts = [&](auto i) {
      return info_.pad_token_id ? ids[i] != *info_.pad_token_id : mask.empty() || mask[i] != 0;
    };
    while (t > 0 && !counts(static_cast<size_t>(b * length + t))) --t;
    last.push_back(static_cast<int32_t>(t));
  }
  input.target_positions = Tensor::from_vector(last, {batch, 1});
  return input;
}

ModelInput CausalModel::complete(ModelInput input) const {
  if (info_.head == Head::sequence_classification) return find_last_tokens(std::move(input));
  if (!label_head_ && input.labels.defined() && !input.labels_shifted) {
    input.labels = shift_labels(input.labels);
    input.labels_shifted = true;
  }
  if (input.prefix_ends.defined()) {
    check_prefix_ends(input.prefix_ends);
  } else if (info_.bidirectional_prefix && !label_head_) {
    input.prefix_ends = prompt_ends(input);
  }
  return input;
}

Variable CausalModel::head_scores(const Variable& h, const ModelInput& input, const ForwardContext& context) const {
  if (info_.head == Head::token_classification) return label_scores(*label_head_, h, context);
  ONDOL_CHECK(input.target_positions.defined(), "input of a ", info_.model_type, " model was not prepared");
  return label_scores(*label_head_, states_at(h, input.target_positions), context);
}

Variable CausalModel::hidden(const ModelInput& input, const ForwardContext& context) {
  const TokenRows rows = token_rows(input.input_ids, context);
  return rows.whole(own_hidden(input, rows, context));
}

NamedOutputs CausalModel::forward(const ModelInput& input, const ForwardContext& context) {
  const Variable h = hidden(input, context);
  const Variable logits = label_head_ ? head_scores(h, input, context)
                                      : functions::linear(h, {.weight = output_.weight, .bias = output_.bias});
  return {{"logits", logits}, {"last_hidden_state", h}};
}

TokenPredictions CausalModel::predict_tokens(const ModelInput& input, const ForwardContext& context) {
  const OutputProjection output = output_projection();
  check_predictions();
  const Variable h = hidden(input, context);
  return {h, h, output};
}

std::vector<int64_t> CausalModel::count_targets(const ModelInput& prepared) const {
  return {count_sequence_labels(prepared.labels)};
}

std::vector<Variable> CausalModel::losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                                          const ForwardContext& context) {
  if (!prepared.labels.defined()) return {Variable()};
  const TokenRows rows = token_rows(prepared.input_ids, context);
  const Variable h = own_hidden(prepared, rows, context);
  if (label_head_) {
    const Variable scores = head_scores(rows.whole(h), prepared, context);
    return {label_loss(info_.head, labels_, scores, prepared.labels, rows.share(scales.at(0)))};
  }
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = output_.weight;
  inputs.bias = output_.bias;
  inputs.scale = scales.at(0);
  return {functions::linear_cross_entropy(h, rows.own(prepared.labels, kIgnoreIndex), inputs)};
}

}  // namespace ondol
