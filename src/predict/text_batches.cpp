#include "predict/text_batches.h"

#include <algorithm>
#include <numeric>

#include <ondol/base/parallel.h>

namespace ondol {

namespace {

std::string at_place(const TextInput& text) { return text.place.empty() ? "" : concat(" (", text.place, ")"); }

int64_t token_limit(const Model& model, const Tokenizer& tokenizer, const PredictOptions& options) {
  int64_t limit = model.info().max_positions;
  if (options.max_tokens > 0) return std::min(limit, options.max_tokens);
  if (options.truncate && tokenizer.max_length() > 0) limit = std::min(limit, tokenizer.max_length());
  return limit;
}

Encoding encode_one(const Tokenizer& tokenizer, const TextInput& text, const EncodeOptions& options, bool detailed) {
  if (text.pair) {
    return detailed ? tokenizer.encode_detailed(text.text, *text.pair, options)
                    : tokenizer.encode_pair(text.text, *text.pair, options);
  }
  if (detailed) return tokenizer.encode_detailed(text.text, options);
  Encoding encoding;
  encoding.ids = tokenizer.encode(text.text, options);
  encoding.type_ids.assign(encoding.ids.size(), 0);
  return encoding;
}

bool takes(const Model& model, const std::string& name) {
  const std::vector<InputSpec> specs = model.inputs();
  return std::any_of(specs.begin(), specs.end(), [&](const InputSpec& spec) { return spec.name == name; });
}

/// On the CPU enough rows for the matrix kernels whose activations stay near the cores; on a GPU enough to fill it.
int64_t default_batch_tokens(const Model& model) { return model.device().type == DeviceType::cpu ? 2048 : 16384; }

}  // namespace

std::vector<Encoding> encode_texts(const Model& model, const Tokenizer& tokenizer, std::span<const TextInput> texts,
                                   const PredictOptions& options, const EncodeTextsOptions& how) {
  const int64_t limit = token_limit(model, tokenizer, options);
  EncodeOptions encode;
  if (options.truncate) encode.max_length = limit;
  encode.truncation = how.strategy;
  std::vector<Encoding> encodings(texts.size());
  parallel_for(static_cast<int64_t>(texts.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const TextInput& text = texts[static_cast<size_t>(i)];
      Encoding& encoding = encodings[static_cast<size_t>(i)];
      encoding = encode_one(tokenizer, text, encode, how.detailed);
      ONDOL_CHECK(!encoding.ids.empty(), "cannot run the model: a text has no tokens", at_place(text));
      const auto length = static_cast<int64_t>(encoding.ids.size());
      if (length <= limit) continue;
      throw Error(concat("cannot run the model: a text has ", length, " tokens, at most ", limit, " are possible",
                         at_place(text)),
                  "cut it with --truncate");
    }
  });
  return encodings;
}

namespace {

/// All sequences in one row, one behind the other.
void fill_unpadded(TextBatch& batch, std::span<const Encoding> encodings, bool token_types) {
  std::vector<int32_t> ids, types;
  for (const size_t text : batch.texts) {
    const Encoding& encoding = encodings[text];
    batch.starts.push_back(static_cast<int64_t>(ids.size()));
    ids.insert(ids.end(), encoding.ids.begin(), encoding.ids.end());
    types.insert(types.end(), encoding.type_ids.begin(), encoding.type_ids.end());
  }
  const Shape shape{1, static_cast<int64_t>(ids.size())};
  batch.input.input_ids = Tensor::from_vector(ids, shape);
  if (token_types) batch.input.token_type_ids = Tensor::from_vector(types, shape);
  batch.input.sequences = SequenceOffsets::from_lengths(batch.lengths);
}

void fill_padded(TextBatch& batch, std::span<const Encoding> encodings, bool token_types, int32_t padding) {
  const auto rows = static_cast<int64_t>(batch.texts.size());
  const int64_t length = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  std::vector<int32_t> ids(static_cast<size_t>(rows * length), padding), types(ids.size(), 0);
  std::vector<uint8_t> mask(ids.size(), 0);
  for (int64_t b = 0; b < rows; ++b) {
    const Encoding& encoding = encodings[batch.texts[static_cast<size_t>(b)]];
    batch.starts.push_back(b * length);
    std::copy(encoding.ids.begin(), encoding.ids.end(), ids.begin() + b * length);
    std::copy(encoding.type_ids.begin(), encoding.type_ids.end(), types.begin() + b * length);
    std::fill_n(mask.begin() + b * length, encoding.ids.size(), uint8_t{1});
  }
  batch.input.input_ids = Tensor::from_vector(ids, {rows, length});
  batch.input.attention_mask = Tensor::from_vector(mask, {rows, length});
  if (token_types) batch.input.token_type_ids = Tensor::from_vector(types, {rows, length});
}

}  // namespace

void for_each_batch(const Model& model, std::span<const Encoding> encodings, const PredictOptions& options,
                    const std::function<void(const TextBatch&)>& run) {
  const int64_t most = options.batch_tokens > 0 ? options.batch_tokens : default_batch_tokens(model);
  const bool unpadded = model.info().runs_unpadded, token_types = takes(model, "token_type_ids");
  std::vector<size_t> order(encodings.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return encodings[a].ids.size() > encodings[b].ids.size(); });
  const auto length_of = [&](size_t text) { return static_cast<int64_t>(encodings[text].ids.size()); };
  for (size_t next = 0; next < order.size();) {
    TextBatch batch;
    const int64_t longest = length_of(order[next]);
    for (int64_t tokens = 0; next < order.size(); ++next) {
      tokens += unpadded ? length_of(order[next]) : longest;
      if (tokens > most && !batch.texts.empty()) break;
      batch.texts.push_back(order[next]);
      batch.lengths.push_back(length_of(order[next]));
    }
    if (unpadded) {
      fill_unpadded(batch, encodings, token_types);
    } else {
      fill_padded(batch, encodings, token_types, model.info().pad_token_id.value_or(0));
    }
    batch.input = model.prepare(std::move(batch.input)).to(model.device());
    run(batch);
  }
}

Tensor host_output(const NamedOutputs& outputs, const std::string& name) {
  for (const auto& [each, value] : outputs) {
    if (each == name) return value.value().to(Device{}).to(DType::f32).contiguous();
  }
  throw_error("the model has no output \"", name, "\"");
}

void require_head(const Model& model, Head head, const char* task) {
  const ModelInfo& info = model.info();
  if (info.head == head) return;
  throw UsageError(concat(task, " needs a model with ",
                          head == Head::masked_language_model     ? "a masked language model head"
                          : head == Head::sequence_classification ? "a head that classifies sequences"
                          : head == Head::token_classification    ? "a head that classifies tokens"
                                                                  : "a question answering head",
                          "; ", info.architecture, " (", info.model_type, ") has none"));
}

}  // namespace ondol
