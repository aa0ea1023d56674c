#include "models/encoder_decoder.h"

#include <algorithm>

#include <ondol/autograd/functions.h>

#include "models/causal_model.h"
#include "models/input.h"

namespace ondol {

EncoderDecoder::EncoderDecoder(const JsonReader& config) : FamilyModel(config) {
  info_.head = Head::sequence_to_sequence;
}

std::vector<InputSpec> EncoderDecoder::inputs() const {
  const std::vector<int64_t> source = {InputSpec::kBatch, InputSpec::kLength};
  const std::vector<int64_t> target = {InputSpec::kBatch, InputSpec::kTargetLength};
  const int64_t vocabulary = info_.vocab_size;
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

ModelInput EncoderDecoder::complete(ModelInput input) const {
  if (input.sequences.defined()) {
    throw UsageError(concat("input does not fit the model: a ", info_.model_type, " model takes no unpadded batches"));
  }
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
  for (size_t begin = 0; begin < tokens.size(); begin += length) {
    const std::span<int32_t> row(&tokens[begin], length);
    const int32_t start = start_token(row);
    std::copy_backward(row.begin(), row.end() - 1, row.end());
    row[0] = start;
    if (ignores) std::replace(row.begin(), row.end(), kIgnoreIndex, *info_.pad_token_id);
  }
  input.decoder_input_ids = Tensor::from_vector(tokens, input.labels.shape(), input.labels.device());
  return input;
}

Variable EncoderDecoder::hidden(const ModelInput& input, const ForwardContext& context) {
  if (context.cache != nullptr) return run_decoder(input, {}, context);
  return run_decoder(input, run_encoder(input.input_ids, input.attention_mask, context), context);
}

NamedOutputs EncoderDecoder::forward(const ModelInput& input, const ForwardContext& context) {
  const Variable encoded = run_encoder(input.input_ids, input.attention_mask, context);
  const Variable h = run_decoder(input, encoded, context);
  return {{"logits", Variable(logits(h.value()))}, {"last_hidden_state", h}, {"encoder_last_hidden_state", encoded}};
}

TokenPredictions EncoderDecoder::predict_tokens(const ModelInput& input, const ForwardContext& context) {
  OutputProjection output = output_projection();
  const Variable h = hidden(input, context);
  const Variable features = output.scale == 1.0f ? h : functions::scale(h, output.scale);
  output.scale = 1.0f;
  return {h, features, output};
}

std::vector<int64_t> EncoderDecoder::count_targets(const ModelInput& prepared) const {
  return {count_labels(prepared.labels)};
}

std::vector<Variable> EncoderDecoder::losses(const ModelInput& prepared, const std::vector<LossScale>& scales,
                                             const ForwardContext& context) {
  if (!prepared.labels.defined()) return {Variable()};
  const OutputProjection output = output_projection();
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = output.weight;
  inputs.bias = output.bias;
  inputs.scale = scales.at(0);
  Variable h = hidden(prepared, context);
  if (output.scale != 1.0f) h = functions::scale(h, output.scale);
  return {functions::linear_cross_entropy(h, prepared.labels, inputs)};
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
    source.layers.push_back(source_keys_values(layer, encoded).value());
  }
  cache.set_source(std::move(source));
}

Variable EncoderDecoder::attend_source(const Variable& q, int64_t layer, const SelfAttentionSettings& settings,
                                       const ModelInput& input, const Variable& encoded, const ForwardContext& context,
                                       uint32_t site) {
  if (context.cache != nullptr) return cross_attention(q, layer, settings, *context.cache);
  return cross_attention(q, source_keys_values(layer, encoded), settings,
                         {input.attention_mask, rng_stream(context, site)});
}

}  // namespace ondol
