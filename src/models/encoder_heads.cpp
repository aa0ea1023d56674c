// The heads of encoders: inputs, outputs and losses by architecture.
#include <ondol/autograd/functions.h>

#include "models/causal_model.h"
#include "models/encoder_model.h"

namespace ondol {

namespace {

/// A part of the scores (.., n) as (..).
Variable column(const Variable& scores, int64_t number) {
  const Variable part = functions::narrow(scores, -1, number, 1);
  const Shape& shape = scores.shape();
  return functions::reshape(part, Shape(std::span<const int64_t>(shape.begin(), shape.end() - 1)));
}

Variable flat(const Variable& scores) {
  return functions::reshape(scores, {scores.value().numel() / scores.shape()[-1], scores.shape()[-1]});
}

LossScale half(LossScale scale) {
  scale.value *= 0.5f;
  return scale;
}

}  // namespace

void EncoderModel::add_plain_label_head(float dropout, float answer_dropout) {
  const bool answers = info_.head == Head::question_answering;
  LabelHead head;
  head.out = add_dense(answers ? "qa_outputs" : "classifier", head_outputs(), info_.hidden_size);
  head.dropout = answers ? answer_dropout : dropout;
  label_head_ = head;
}

int64_t EncoderModel::head_outputs() const {
  if (info_.head == Head::question_answering) return 2;
  if (info_.head == Head::replaced_token_detection) return 1;
  return labels_.size();
}

std::vector<InputSpec> EncoderModel::inputs() const {
  const std::vector<int64_t> tokens = {InputSpec::kBatch, InputSpec::kLength}, samples = {InputSpec::kBatch};
  std::vector<InputSpec> specs = {
      {.name = "input_ids", .shape = tokens, .limit = info_.vocab_size, .role = InputSpec::needed},
      {.name = "attention_mask", .shape = tokens, .dtype = DType::u8},
      {.name = "position_ids", .shape = tokens, .limit = settings_.position_rows}};
  if (settings_.token_types > 0) {
    specs.push_back({.name = "token_type_ids", .shape = tokens, .limit = settings_.token_types});
  }
  const auto token_labels = [&](int64_t limit) {
    specs.push_back({.name = "labels", .shape = tokens, .limit = limit, .ignorable = true, .role = InputSpec::target});
  };
  switch (info_.head) {
    case Head::masked_language_model:
      token_labels(info_.vocab_size);
      if (next_sentence_.weight.defined()) {
        specs.push_back({.name = "next_sentence_label",
                         .shape = samples,
                         .limit = 2,
                         .ignorable = true,
                         .role = InputSpec::target});
      }
      break;
    case Head::replaced_token_detection:
      token_labels(2);
      break;
    case Head::token_classification:
    case Head::sequence_classification:
      for (const InputSpec& spec : label_specs(info_.head, labels_)) specs.push_back(spec);
      break;
    case Head::question_answering:
      specs.push_back({.name = "start_positions", .shape = samples, .role = InputSpec::target});
      specs.push_back({.name = "end_positions", .shape = samples, .role = InputSpec::target});
      break;
    default:
      break;
  }
  return specs;
}

/// The hidden state of each sequence's first token: (B, C).
Variable EncoderModel::first_positions(const Variable& h, const ModelInput& input) const {
  if (input.sequences.defined()) {
    const int64_t batch = input.sequences.offsets.numel() - 1;
    return functions::embedding(functions::reshape(h, {h.shape()[1], h.shape()[2]}),
                                input.sequences.offsets.narrow(0, 0, batch));
  }
  return functions::reshape(functions::narrow(h, 1, 0, 1), {h.shape()[0], h.shape()[2]});
}

Variable EncoderModel::pool(const Variable& h, const ModelInput& input) const {
  if (!pooler_.weight.defined()) return {};
  const Variable dense = functions::linear(first_positions(h, input), {.weight = pooler_.weight, .bias = pooler_.bias});
  return functions::activation(dense, Activation::tanh);
}

Variable EncoderModel::transform(const Variable& h) const {
  const MaskedLmHead& head = *lm_head_;
  const Variable dense = functions::linear(
      h, {.weight = head.transform.weight, .bias = head.transform.bias, .activation = head.activation});
  return functions::layer_norm(dense, head.norm.weight, head.norm.bias, settings_.norm_eps);
}

Variable EncoderModel::head_scores(const Variable& h, const Variable& pooled, const ModelInput& input,
                                   const ForwardContext& context) const {
  const bool of_tokens = info_.head != Head::sequence_classification;
  const Variable states = of_tokens ? h : pooled.defined() ? pooled : first_positions(h, input);
  return label_scores(*label_head_, states, context);
}

NamedOutputs EncoderModel::forward(const ModelInput& input, const ForwardContext& context) {
  const Variable h = hidden(input, context), pooled = pool(h, input);
  NamedOutputs outputs;
  if (lm_head_) {
    const OutputProjection& output = lm_head_->output;
    Variable rows = h;
    if (context.logit_rows.defined()) {
      rows = functions::embedding(functions::reshape(h, {h.value().numel() / info_.hidden_size, info_.hidden_size}),
                                  context.logit_rows);
    }
    outputs.emplace_back("logits", functions::linear(transform(rows), {.weight = output.weight, .bias = output.bias}));
  }
  if (next_sentence_.weight.defined()) {
    outputs.emplace_back("seq_relationship_logits",
                         functions::linear(pooled, {.weight = next_sentence_.weight, .bias = next_sentence_.bias}));
  }
  if (label_head_) {
    const Variable scores = head_scores(h, pooled, input, context);
    if (info_.head == Head::question_answering) {
      outputs.emplace_back("start_logits", column(scores, 0));
      outputs.emplace_back("end_logits", column(scores, 1));
    } else {
      outputs.emplace_back("logits", info_.head == Head::replaced_token_detection ? column(scores, 0) : scores);
    }
  }
  outputs.emplace_back("last_hidden_state", h);
  if (pooled.defined()) outputs.emplace_back("pooler_output", pooled);
  return outputs;
}

TokenPredictions EncoderModel::predict_tokens(const ModelInput& input, const ForwardContext& context) {
  if (!lm_head_) return FamilyModel::predict_tokens(input, context);
  check_predictions();
  const Variable h = hidden(input, context);
  const Variable rows = input.target_positions.defined() ? functions::take_rows(h, input.target_positions) : h;
  return {h, transform(rows), lm_head_->output};
}

std::vector<int64_t> EncoderModel::count_targets(const ModelInput& prepared) const {
  if (info_.head == Head::question_answering) {
    return {count_labels(prepared.start_positions), count_labels(prepared.end_positions)};
  }
  std::vector<int64_t> counts = {count_sequence_labels(prepared.labels)};
  if (next_sentence_.weight.defined()) counts.push_back(count_labels(prepared.next_sentence_label));
  return counts;
}

/// The loss of the own rows: of the tokens or, where the targets were gathered, of these.
Variable EncoderModel::masked_loss(const Variable& own, const Variable& whole, const ModelInput& prepared,
                                   const TokenRows& rows, const LossScale& scale) const {
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = lm_head_->output.weight;
  inputs.bias = lm_head_->output.bias;
  inputs.scale = scale;
  if (prepared.target_positions.defined()) {
    const TokenRows targets(tensor_group_, prepared.target_positions.shape());
    const Variable states = targets.own(functions::take_rows(whole, prepared.target_positions));
    return functions::linear_cross_entropy(transform(states), targets.own(prepared.target_labels, kIgnoreIndex),
                                           inputs);
  }
  if (!prepared.labels.defined()) return {};
  return functions::linear_cross_entropy(transform(own), rows.own(prepared.labels, kIgnoreIndex), inputs);
}

std::vector<Variable> EncoderModel::losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                                           const ForwardContext& context) {
  const TokenRows rows = token_rows(prepared.input_ids, context);
  const Variable own = own_hidden(prepared, rows, context);
  const bool of_own_rows = lm_head_ && !pooler_.weight.defined() && !prepared.target_positions.defined();
  const Variable h = of_own_rows ? own : rows.whole(own), pooled = pool(h, prepared);
  std::vector<Variable> terms(1 + (info_.head == Head::question_answering || next_sentence_.weight.defined()));
  const Tensor& labels = prepared.labels;
  if (lm_head_) {
    terms[0] = masked_loss(own, h, prepared, rows, scales.at(0));
    if (next_sentence_.weight.defined() && prepared.next_sentence_label.defined()) {
      const Variable scores = functions::linear(pooled, {.weight = next_sentence_.weight, .bias = next_sentence_.bias});
      terms[1] = functions::cross_entropy(scores, prepared.next_sentence_label, rows.share(scales.at(1)));
    }
    return terms;
  }
  if (!label_head_) return terms;
  const Variable scores = head_scores(h, pooled, prepared, context);
  if (info_.head == Head::question_answering) {  // the mean of both
    if (prepared.start_positions.defined()) {
      terms[0] = functions::cross_entropy(column(scores, 0), prepared.start_positions, half(rows.share(scales.at(0))));
    }
    if (prepared.end_positions.defined()) {
      terms[1] = functions::cross_entropy(column(scores, 1), prepared.end_positions, half(rows.share(scales.at(1))));
    }
    return terms;
  }
  if (!labels.defined()) return terms;
  if (info_.head == Head::replaced_token_detection) {
    // sigmoid(x) is the softmax of (0, x) for class 1.
    const Variable zeros(Tensor::zeros(flat(scores).shape(), scores.dtype(), scores.device()));
    const Variable classes = functions::concat({zeros, flat(scores)}, 1);
    terms[0] = functions::cross_entropy(classes, labels.reshape({labels.numel()}), rows.share(scales.at(0)));
  } else {
    terms[0] = label_loss(info_.head, labels_, scores, labels, rows.share(scales.at(0)));
  }
  return terms;
}

}  // namespace ondol
