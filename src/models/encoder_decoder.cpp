#include "models/encoder_decoder.h"

#include <algorithm>

#include <ondol/autograd/functions.h>

#include "models/causal_model.h"
#include "models/input.h"

namespace ondol {

EncoderDecoder::EncoderDecoder(const JsonReader& config, const std::string& family) : FamilyModel(config) {
  info_.head = Head::sequence_to_sequence;
  if (family.empty() || label_head_of(config, family) != Head::sequence_classification) return;
  info_.architecture = listed_architecture(config);
  labels_ = read_labels(config, Head::sequence_classification, info_);
  label_head_.dropout = config.get<float>("classifier_dropout", 0.0f, half_open(0.0, 1.0));
}

void EncoderDecoder::add_label_head(const Init& init) {
  const int64_t hidden = info_.hidden_size;
  const auto dense = [&](const std::string& name, int64_t outputs) {
    return Dense{add_weight("classification_head." + name + ".weight", {outputs, hidden}, init),
                 add_weight("classification_head." + name + ".bias", {outputs}, Init::zeros())};
  };
  label_head_.dense = dense("dense", hidden);
  label_head_.out = dense("out_proj", labels_.size());
}

bool EncoderDecoder::is_other_head(const std::string& name) const {
  return has_label_head() && (name == "final_logits_bias" || name.starts_with("lm_head."));
}

OutputProjection EncoderDecoder::output_projection() const {
  return has_label_head() ? FamilyModel::output_projection() : output_;
}

std::vector<InputSpec> EncoderDecoder::inputs() const {
  const std::vector<int64_t> source = {InputSpec::kBatch, InputSpec::kLength};
  const std::vector<int64_t> target = {InputSpec::kBatch, InputSpec::kTargetLength};
  const int64_t vocabulary = info_.vocab_size;
  if (has_label_head()) {
    std::vector<InputSpec> specs = {
        {.name = "input_ids", .shape = source, .limit = vocabulary, .role = InputSpec::needed},
        {.name = "attention_mask", .shape = source, .dtype = DType::u8}};
    for (const InputSpec& spec : label_specs(info_.head, labels_)) specs.push_back(spec);
    return specs;
  }
  return {
      {.name = "input_ids", .shape = source, .limit = info_.source_vocab_size, .role = InputSpec::needed},
      {.name = "attention_mask", .shape = source, .dtype = DType::u8},
      {.name = "decoder_input_ids", .shape = target, .limit = vocabulary},
      {.name = "decoder_attention_mask", .shape = target, .dtype = DType::u8},
      {.name = "labels", .shape = target, .limit = vocabulary, .ignorable = true, .role = InputSpec::target},
  };
}

int32_t EncoderDecoder::start_token(std::span<const int32_t>) const {
  if (!info_.decoder_start_token_id) {
    throw UsageError("decoder_input_ids cannot be made from labels: the configuration has no decoder_start_token_id");
  }
  return *info_.decoder_start_token_id;
}

/// Each row begins with its start token and loses its last one.
void EncoderDecoder::shift_right(std::vector<int32_t>& tokens, size_t length) const {
  for (size_t begin = 0; begin < tokens.size(); begin += length) {
    const std::span<int32_t> row(&tokens[begin], length);
    const int32_t start = start_token(row);
    std::copy_backward(row.begin(), row.end() - 1, row.end());
    row[0] = start;
  }
}

/// The decoder reads the text as the encoder does, behind its start token.
ModelInput EncoderDecoder::complete_text(ModelInput input) const {
  const int64_t batch = input.input_ids.size(0), length = input.input_ids.size(1);
  std::vector<int32_t> tokens = input.input_ids.to_vector<int32_t>(), last;
  const std::vector<int32_t>& ends = info_.eos_token_ids;
  for (int64_t b = 0; b < batch; ++b) {
    int64_t t = length - 1;
    const auto is_end = [&] {
      return std::find(ends.begin(), ends.end(), tokens[static_cast<size_t>(b * length + t)]) != ends.end();
    };
    while (t >= 0 && !is_end()) --t;
    if (t < 0) {
      throw UsageError(concat("input does not fit the model: row ", b, " of input_ids has no end token, by which a ",
                              info_.architecture, " classifies"));
    }
    last.push_back(static_cast<int32_t>(t));
  }
  shift_right(tokens, static_cast<size_t>(length));
  input.decoder_input_ids = Tensor::from_vector(tokens, input.input_ids.shape());
  input.target_positions = Tensor::from_vector(last, {batch, 1});
  return input;
}

ModelInput EncoderDecoder::complete(ModelInput input) const {
  if (input.sequences.defined()) {
    throw UsageError(concat("input does not fit the model: a ", info_.model_type, " model takes no unpadded batches"));
  }
  if (has_label_head()) return complete_text(std::move(input));
  if (input.decoder_input_ids.defined()) return input;
  if (!input.labels.defined()) {
    throw UsageError(concat("input does not fit the model: a ", info_.model_type,
                            " model needs decoder_input_ids, or labels to make them of"));
  }
  const auto length = static_cast<size_t>(input.labels.size(1));
  std::vector<int32_t> tokens = input.labels.to_vector<int32_t>();
  const bool ignores = std::find(tokens.begin(), tokens.end(), kIgnoreIndex) != tokens.end();
  if (ignores && !info_.pad_token_id) {
    throw UsageError("decoder_input_ids cannot be made from labels of -100: the configuration has no pad_token_id");
  }
  shift_right(tokens, length);
  if (ignores) std::replace(tokens.begin(), tokens.end(), kIgnoreIndex, *info_.pad_token_id);
  input.decoder_input_ids = Tensor::from_vector(tokens, input.labels.shape(), input.labels.device());
  return input;
}

Variable EncoderDecoder::head_scores(const Variable& h, const ModelInput& input, const ForwardContext& context) const {
  ONDOL_CHECK(input.target_positions.defined(), "input of a ", info_.model_type, " model was not prepared");
  return label_scores(label_head_, states_at(h, input.target_positions), context);
}

Variable EncoderDecoder::hidden(const ModelInput& input, const ForwardContext& context) {
  if (context.cache != nullptr) return run_decoder(input, {}, context);
  return token_rows(input.decoder_input_ids, context).whole(own_hidden(input, context));
}

Variable EncoderDecoder::own_hidden(const ModelInput& input, const ForwardContext& context) {
  return run_decoder(input, run_encoder(input.input_ids, input.attention_mask, context), context);
}

NamedOutputs EncoderDecoder::forward(const ModelInput& input, const ForwardContext& context) {
  const Variable own = run_encoder(input.input_ids, input.attention_mask, context);
  const Variable h = token_rows(input.decoder_input_ids, context).whole(run_decoder(input, own, context));
  const Variable encoded = token_rows(input.input_ids, context).whole(own);
  const Variable scores = has_label_head() ? head_scores(h, input, context) : Variable(logits(h.value()));
  return {{"logits", scores}, {"last_hidden_state", h}, {"encoder_last_hidden_state", encoded}};
}

TokenPredictions EncoderDecoder::predict_tokens(const ModelInput& input, const ForwardContext& context) {
  OutputProjection output = output_projection();
  check_predictions();
  const Variable h = hidden(input, context);
  const Variable features = output.scale == 1.0f ? h : functions::scale(h, output.scale);
  output.scale = 1.0f;
  return {h, features, output};
}

std::vector<int64_t> EncoderDecoder::count_targets(const ModelInput& prepared) const {
  return {count_sequence_labels(prepared.labels)};
}

std::vector<Variable> EncoderDecoder::losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                                             const ForwardContext& context) {
  if (!prepared.labels.defined()) return {Variable()};
  const TokenRows rows = token_rows(prepared.decoder_input_ids, context);
  if (has_label_head()) {
    const Variable scores = head_scores(hidden(prepared, context), prepared, context);
    return {label_loss(info_.head, labels_, scores, prepared.labels, rows.share(scales.at(0)))};
  }
  const OutputProjection output = output_projection();
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = output.weight;
  inputs.bias = output.bias;
  inputs.scale = scales.at(0);
  Variable h = own_hidden(prepared, context);
  if (output.scale != 1.0f) h = functions::scale(h, output.scale);
  return {functions::linear_cross_entropy(h, rows.own(prepared.labels, kIgnoreIndex), inputs)};
}

void EncoderDecoder::encode(const Tensor& sources, const std::vector<int32_t>& lengths, KvCache& cache) {
  const int64_t batch = sources.size(0), longest = sources.size(1);
  ONDOL_CHECK(lengths.size() == static_cast<size_t>(batch) && cache.sizes().batch % batch == 0, "[encode] ", batch,
              " sources, ", lengths.size(), " lengths, ", cache.sizes().batch, " rows of the cache");
  std::vector<uint8_t> mask;
  bool padded = false;
  for (const int32_t length : lengths) {
    ONDOL_CHECK(length > 0 && length <= longest, "[encode] a source of ", length, " tokens of ", longest);
    for (int64_t t = 0; t < longest; ++t) mask.push_back(t < length);
    padded = padded || length < longest;
  }
  const NoGrad no_grad;
  const Tensor visible = padded ? Tensor::from_vector(mask, {batch, longest}, device()) : Tensor();
  const Variable encoded = run_encoder(sources, visible, {});
  CrossKeyValues source;
  source.lengths = Tensor::from_vector(lengths, {batch}, device());
  for (int64_t layer = 0; layer < info_.num_layers; ++layer) {
    source.layers.push_back(source_keys_values(layer, encoded, {}).value());
  }
  cache.set_source(std::move(source));
}

Variable EncoderDecoder::attend_source(const Variable& q, int64_t layer, const SelfAttentionSettings& settings,
                                       const ModelInput& input, const Variable& encoded, const ForwardContext& context,
                                       uint32_t site) {
  if (context.cache != nullptr) return cross_attention(q, layer, settings, *context.cache);
  const TokenRows rows = token_rows(input.input_ids, context);
  return cross_attention(q, source_keys_values(layer, encoded, rows), rows.share(settings),
                         {input.attention_mask, rng_stream(context, site)});
}

}  // namespace ondol
