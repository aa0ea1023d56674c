#include "models/encoder_model.h"

#include <algorithm>

#include <ondol/autograd/functions.h>
#include <ondol/nn/self_attention.h>

#include "models/causal_model.h"

namespace ondol {

EncoderSettings bert_defaults() {
  EncoderSettings settings;
  settings.vocab_size = 30522;
  settings.hidden_size = 768;
  settings.num_layers = settings.num_heads = 12;
  settings.intermediate_size = 3072;
  settings.position_rows = 512;
  settings.token_types = 2;
  return settings;
}

EncoderSettings read_bert_settings(const JsonReader& c, EncoderSettings s) {
  s.vocab_size = c.get<int64_t>("vocab_size", s.vocab_size, between(1, 1 << 28));
  s.hidden_size = c.get<int64_t>("hidden_size", s.hidden_size, between(1, 1 << 20));
  s.num_layers = c.get<int64_t>("num_hidden_layers", s.num_layers, between(1, 10000));
  s.num_heads = c.get<int64_t>("num_attention_heads", s.num_heads, between(1, 1 << 16));
  s.intermediate_size = c.get<int64_t>("intermediate_size", s.intermediate_size, between(1, 1 << 24));
  s.position_rows = c.get<int64_t>("max_position_embeddings", s.position_rows, between(1, 1 << 28));
  s.token_types = c.get<int64_t>("type_vocab_size", s.token_types, between(1, 1 << 16));
  s.norm_eps = c.get<float>("layer_norm_eps", s.norm_eps, above(0.0));
  s.initializer_range = c.get<float>("initializer_range", s.initializer_range, at_least(0.0));
  s.hidden_dropout = c.get<float>("hidden_dropout_prob", 0.1f, half_open(0.0, 1.0));
  s.attention_output_dropout = s.hidden_dropout;
  s.attention_dropout = c.get<float>("attention_probs_dropout_prob", 0.1f, half_open(0.0, 1.0));
  s.label_dropout = c.get<float>("classifier_dropout", s.hidden_dropout, half_open(0.0, 1.0));
  s.activation = read_activation(c, "hidden_act", "gelu");
  s.tied = c.get<bool>("tie_word_embeddings", true);
  if (c.get<bool>("is_decoder", false)) c.fail("is_decoder", "not supported");
  const std::string positions = c.get<std::string>("position_embedding_type", "absolute");
  if (positions != "absolute") c.fail("position_embedding_type", concat(quoted_name(positions), " is not supported"));
  return s;
}

EncoderLayerNames bert_layer_names(const std::string& p) {
  return {p + "attention.self.query",
          p + "attention.self.key",
          p + "attention.self.value",
          p + "attention.output.dense",
          p + "attention.output.LayerNorm",
          p + "intermediate.dense",
          p + "output.dense",
          p + "output.LayerNorm"};
}

EncoderModel::EncoderModel(const JsonReader& config, const EncoderSettings& settings)
    : FamilyModel(config), settings_(settings) {
  const EncoderSettings& s = settings_;
  if (s.hidden_size % s.num_heads != 0) {
    throw UsageError(concat(s.num_heads, " attention heads do not divide the hidden size ", s.hidden_size, " (",
                            config.file(), ")"));
  }
  const int64_t reserved = s.position_padding ? int64_t{*s.position_padding} + 1 : 0;
  if (s.position_rows <= reserved) {
    throw UsageError(concat(s.position_rows, " positions leave none for tokens (", config.file(), ")"));
  }
  info_.vocab_size = s.vocab_size;
  info_.hidden_size = s.hidden_size;
  info_.num_layers = s.num_layers;
  info_.max_positions = s.position_rows - reserved;
  info_.num_kv_heads = s.num_heads;
  info_.runs_unpadded = true;
  info_.head_dim = s.hidden_size / s.num_heads;
  info_.matmul_parameters = s.num_layers * (4 * s.hidden_size + 2 * s.intermediate_size) * s.hidden_size;
}

void EncoderModel::read_architecture(const JsonReader& config, const std::vector<Architecture>& known) {
  std::string wanted = known.front().name, names;
  if (config.has("architectures")) {
    const auto listed = config.require<std::vector<std::string>>("architectures");
    if (!listed.empty()) wanted = listed.front();
  }
  for (const Architecture& architecture : known) {
    names += (names.empty() ? "" : ", ") + std::string(architecture.name);
    if (wanted != architecture.name) continue;
    info_.architecture = wanted;
    info_.head = architecture.head;
    if (info_.head == Head::sequence_classification || info_.head == Head::token_classification) {
      labels_ = read_labels(config, info_.head, info_);
    }
    return;
  }
  config.fail("architectures", concat("\"", wanted, "\" is not supported"), "supported: " + names);
}

Dense EncoderModel::add_dense(const std::string& name, int64_t outputs, int64_t inputs) {
  return {add_weight(name + ".weight", {outputs, inputs}, normal_init()),
          add_weight(name + ".bias", {outputs}, Init::zeros())};
}

Norm EncoderModel::add_norm(const std::string& name, int64_t size) {
  return {add_weight(name + ".weight", {size}, Init::ones()), add_weight(name + ".bias", {size}, Init::zeros())};
}

void EncoderModel::add_embeddings(const std::string& prefix) {
  const EncoderSettings& s = settings_;
  const int64_t width = s.embedding_width();
  const int64_t padding = padding_id();
  ONDOL_CHECK(padding < s.vocab_size, "pad_token_id ", padding, " is outside the vocabulary of ", s.vocab_size);
  words_name_ = prefix + "word_embeddings.weight";
  embeddings_.words = add_weight(words_name_, {s.vocab_size, width}, normal_init().with_zero_row(padding));
  embeddings_.positions = add_weight(prefix + "position_embeddings.weight", {s.position_rows, width},
                                     normal_init().with_zero_row(s.position_padding.value_or(-1)));
  if (s.token_types > 0) {
    embeddings_.token_types =
        add_weight(prefix + "token_type_embeddings.weight", {s.token_types, width}, normal_init());
  }
  embeddings_.norm = add_norm(prefix + "LayerNorm", width);
}

OutputProjection EncoderModel::add_vocabulary_projection(const std::string& decoder, const std::string& bias,
                                                         int64_t width) {
  const int64_t vocabulary = settings_.vocab_size;
  info_.matmul_parameters += vocabulary * width;
  decoder_name_ = decoder;
  bias_name_ = bias;
  OutputProjection output{embeddings_.words, add_weight(bias, {vocabulary}, Init::zeros())};
  if (settings_.tied) return output;
  output.weight = add_weight(decoder + ".weight", {vocabulary, width}, normal_init());
  if (bias != decoder + ".bias") output.bias = add_weight(decoder + ".bias", {vocabulary}, Init::zeros());
  return output;
}

std::string EncoderModel::tied_name(const std::string& name) const {
  if (decoder_name_.empty() || !settings_.tied) return "";
  if (name == decoder_name_ + ".weight") return words_name_;
  return name == decoder_name_ + ".bias" ? bias_name_ : "";
}

/// transformers 4 ties the two biases of an untied head and writes one of them.
std::string EncoderModel::alternative_name(const std::string& name) const {
  if (decoder_name_.empty()) return "";
  if (name == decoder_name_ + ".bias") return bias_name_;
  return name == bias_name_ ? decoder_name_ + ".bias" : "";
}

/// Buffers, and the weights of heads that this architecture has not.
bool EncoderModel::is_buffer(const std::string& name) const {
  const std::string prefix = base_prefix();
  const std::string rest = name.starts_with(prefix) ? name.substr(prefix.size()) : name;
  if (rest.ends_with("embeddings.position_ids")) return true;
  if (!tied_name(name).empty()) return false;
  constexpr const char* kHeads[] = {"pooler.", "cls.",       "lm_head.",       "classifier.",    "qa_outputs.",
                                    "vocab_",  "generator_", "discriminator_", "pre_classifier."};
  return std::any_of(std::begin(kHeads), std::end(kHeads), [&](const char* head) { return rest.starts_with(head); });
}

void EncoderModel::add_layer(const EncoderLayerNames& names) {
  const int64_t hidden = settings_.hidden_size;
  const auto qkv = [&](const char* kind) {
    return std::vector<Part>{{names.query + kind, hidden}, {names.key + kind, hidden}, {names.value + kind, hidden}};
  };
  Layer layer;
  layer.parameters = parameters_.begin_layer();
  layer.qkv = {add_fused(names.query + ".qkv.weight", qkv(".weight"), hidden, normal_init()),
               add_fused(names.query + ".qkv.bias", qkv(".bias"), 0, Init::zeros())};
  layer.o_proj = add_dense(names.attention_output, hidden, hidden);
  layer.attention_norm = add_norm(names.attention_norm, hidden);
  layer.up_proj = add_dense(names.up, settings_.intermediate_size, hidden);
  layer.down_proj = add_dense(names.down, hidden, settings_.intermediate_size);
  layer.output_norm = add_norm(names.output_norm, hidden);
  parameters_.end_layer();
  for (const Dense& dense : {layer.qkv, layer.up_proj}) {
    share_rows(dense.weight);
    share_rows(dense.bias);
  }
  for (const Dense& dense : {layer.o_proj, layer.down_proj}) share_columns(dense.weight);
  layers_.push_back(layer);
}

void EncoderModel::check_tensor_ranks(int ranks) const {
  check_shared_out("the number of attention heads", settings_.num_heads, ranks);
  check_shared_out("the inner size of the MLP", settings_.intermediate_size, ranks);
}

Variable EncoderModel::embed(const ModelInput& input, const TokenRows& rows, const ForwardContext& context) const {
  ONDOL_CHECK(input.positions.defined() && (settings_.token_types == 0 || input.token_type_ids.defined()),
              "input of a ", info_.model_type, " model was not prepared");
  const Norm& norm = embeddings_.norm;
  const Variable words =
      functions::embedding(embeddings_.words, rows.own(input.input_ids, 0), static_cast<int>(padding_id()));
  Variable rest = functions::embedding(embeddings_.positions, rows.own(input.positions, 0),
                                       settings_.position_padding.value_or(-1));
  if (settings_.token_types > 0) {
    rest = functions::add(rest, functions::embedding(embeddings_.token_types, rows.own(input.token_type_ids, 0)));
  }
  Variable h = functions::add_layer_norm(words, rest, norm.weight, norm.bias, settings_.norm_eps).out;
  h = drop(h, settings_.hidden_dropout, context, 0, rows);
  if (!embedding_projection_.weight.defined()) return h;
  return functions::linear(h, {.weight = embedding_projection_.weight, .bias = embedding_projection_.bias});
}

Variable EncoderModel::hidden(const ModelInput& input, const ForwardContext& context) {
  if (context.cache != nullptr) output_projection();  // throws: an encoder generates nothing
  const TokenRows rows = token_rows(input.input_ids, context);
  return rows.whole(own_hidden(input, rows, context));
}

Variable EncoderModel::own_hidden(const ModelInput& input, const TokenRows& rows, const ForwardContext& context) {
  Variable h = embed(input, rows, context);
  keep_hidden_state(context, h);
  for (size_t l = 0; l < layers_.size(); ++l) {
    h = run_as_layer(context, layers_[l].parameters, [=, this] { return run_layer(l, h, input, rows, context); });
    keep_hidden_state(context, h);
  }
  return h;
}

Variable EncoderModel::run_layer(size_t l, const Variable& h, const ModelInput& input, const TokenRows& rows,
                                 const ForwardContext& context) {
  const EncoderSettings& s = settings_;
  const Layer& layer = layers_[l];
  const uint32_t stream = 1 + 3 * static_cast<uint32_t>(l);
  SelfAttentionSettings attention;
  attention.num_heads = attention.num_kv_heads = s.num_heads;
  attention.head_dim = info_.head_dim;
  attention.causal = false;
  attention.dropout_p = context.training ? s.attention_dropout : 0.0f;
  const SelfAttentionInput masks{
      input.attention_mask, input.documents, {}, rng_stream(context, stream), input.sequences};

  const Variable qkv = rows.column_linear(h, {.weight = layer.qkv.weight, .bias = layer.qkv.bias});
  const Variable mixed = self_attention(qkv, static_cast<int64_t>(l), rows.share(attention), masks, nullptr);
  Variable sum = close_branch(h, mixed, layer.o_proj, s.attention_output_dropout, context, stream + 1, rows);
  const Variable attended =
      functions::layer_norm(sum, layer.attention_norm.weight, layer.attention_norm.bias, s.norm_eps);

  const Variable up = rows.column_linear(
      attended, {.weight = layer.up_proj.weight, .bias = layer.up_proj.bias, .activation = s.activation});
  sum = close_branch(attended, up, layer.down_proj, s.hidden_dropout, context, stream + 2, rows);
  return functions::layer_norm(sum, layer.output_norm.weight, layer.output_norm.bias, s.norm_eps);
}

/// Sets target_positions and target_labels where a row has labels at no more than half of its positions.
void EncoderModel::gather_targets(ModelInput& input) {
  if (!input.labels.defined()) return;
  constexpr int64_t kMultiple = 8;  // so that few different shapes occur
  const int64_t batch = input.labels.size(0), length = input.labels.size(1);
  const std::vector<int32_t> labels = input.labels.to_vector<int32_t>();
  int64_t most = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const auto row = labels.begin() + b * length;
    most = std::max<int64_t>(most, length - std::count(row, row + length, kIgnoreIndex));
  }
  const int64_t places = std::max(kMultiple, (most + kMultiple - 1) / kMultiple * kMultiple);
  if (2 * places > length) return;
  std::vector<int32_t> positions(static_cast<size_t>(batch * places), 0), values(positions.size(), kIgnoreIndex);
  for (int64_t b = 0; b < batch; ++b) {
    auto next = static_cast<size_t>(b * places);
    for (int64_t t = 0; t < length; ++t) {
      const int32_t label = labels[static_cast<size_t>(b * length + t)];
      if (label == kIgnoreIndex) continue;
      positions[next] = static_cast<int32_t>(t);
      values[next++] = label;
    }
  }
  input.target_positions = Tensor::from_vector(positions, {batch, places});
  input.target_labels = Tensor::from_vector(values, {batch, places});
}

/// Tokens are counted from 0 in each sequence, by RoBERTa from padding + 1 without the padding.
ModelInput EncoderModel::complete(ModelInput input) const {
  const Tensor ids = input.input_ids.contiguous();
  const Shape& shape = ids.shape();
  if (!input.positions.defined()) {
    const int32_t* tokens = ids.data<int32_t>();
    std::vector<int32_t> starts;
    if (input.sequences.defined()) {
      starts = input.sequences.offsets.to_vector<int32_t>();
    } else {
      for (int64_t b = 0; b <= shape[0]; ++b) starts.push_back(static_cast<int32_t>(b * shape[1]));
    }
    std::vector<int32_t> positions(static_cast<size_t>(ids.numel()));
    const int32_t padding = settings_.position_padding.value_or(-1);
    for (size_t b = 0; b + 1 < starts.size(); ++b) {
      int32_t next = padding + 1;
      for (int32_t i = starts[b]; i < starts[b + 1]; ++i) {
        const bool counts = !settings_.position_padding || tokens[i] != padding;
        positions[static_cast<size_t>(i)] = counts ? next++ : padding;
      }
    }
    input.positions = Tensor::from_vector(positions, shape);
  }
  if (settings_.token_types > 0 && !input.token_type_ids.defined()) {
    input.token_type_ids = Tensor::zeros(shape, DType::i32);
  }
  // An answer that the text was cut off from counts nothing, nor does a replaced token behind the text.
  const auto ignore = [&input](Tensor& targets, const auto& is_target) {
    if (!targets.defined()) return;
    std::vector<int32_t> values = targets.to_vector<int32_t>();
    for (size_t i = 0; i < values.size(); ++i) {
      if (!is_target(i, values[i])) values[i] = kIgnoreIndex;
    }
    targets = Tensor::from_vector(values, targets.shape());
  };
  if (info_.head == Head::masked_language_model) gather_targets(input);
  if (info_.head == Head::question_answering) {
    const auto inside = [&shape](size_t, int32_t value) { return value >= 0 && value < shape[1]; };
    ignore(input.start_positions, inside);
    ignore(input.end_positions, inside);
  }
  if (info_.head == Head::replaced_token_detection && input.attention_mask.defined()) {
    const std::vector<uint8_t> mask = input.attention_mask.to_vector<uint8_t>();
    ignore(input.labels, [&mask](size_t i, int32_t) { return mask[i] != 0; });
  }
  return input;
}

}  // namespace ondol
