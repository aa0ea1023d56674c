// Sentence embeddings (Reimers & Gurevych 2019): pooled hidden states.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <ondol/base/parallel.h>

#include "base/json_reader.h"
#include "predict/text_batches.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

/// rows (length, width) -> out (width).
void pool(const float* rows, int64_t length, int64_t width, const EmbedOptions& options, float* out) {
  std::copy(rows, rows + width, out);
  if (options.pooling != Pooling::cls) {
    for (int64_t t = 1; t < length; ++t) {
      const float* row = rows + t * width;
      if (options.pooling == Pooling::max) {
        for (int64_t c = 0; c < width; ++c) out[c] = std::max(out[c], row[c]);
      } else {
        for (int64_t c = 0; c < width; ++c) out[c] += row[c];
      }
    }
  }
  const auto count = static_cast<double>(length);
  double factor = 1.0;
  if (options.pooling == Pooling::mean) factor = 1.0 / count;
  if (options.pooling == Pooling::mean_sqrt_length) factor = 1.0 / std::sqrt(count);
  if (options.normalize) {
    double squares = 0.0;
    for (int64_t c = 0; c < width; ++c) squares += static_cast<double>(out[c]) * out[c];
    const double norm = std::sqrt(squares) * factor;
    factor /= std::max(norm, 1e-12);
  }
  for (int64_t c = 0; c < width; ++c) out[c] *= static_cast<float>(factor);
}

Pooling read_pooling(const JsonReader& config) {
  constexpr std::pair<const char*, Pooling> kModes[] = {
      {"pooling_mode_cls_token", Pooling::cls},
      {"pooling_mode_mean_tokens", Pooling::mean},
      {"pooling_mode_max_tokens", Pooling::max},
      {"pooling_mode_mean_sqrt_len_tokens", Pooling::mean_sqrt_length}};
  for (const char* other : {"pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"}) {
    if (config.get<bool>(other, false)) config.fail(other, "not supported");
  }
  std::optional<Pooling> found;
  for (const auto& [key, mode] : kModes) {
    if (!config.get<bool>(key, false)) continue;
    if (found) config.fail(key, "only one way of pooling is supported");
    found = mode;
  }
  return found.value_or(Pooling::mean);
}

}  // namespace

Tensor embed(Model& model, const Tokenizer& tokenizer, std::span<const TextInput> texts, const EmbedOptions& options) {
  const int64_t width = model.info().hidden_size;
  const std::vector<Encoding> encodings = encode_texts(model, tokenizer, texts, options.texts);
  const Tensor embeddings = Tensor::empty({static_cast<int64_t>(texts.size()), width});
  for_each_batch(model, encodings, options.texts, [&](const TextBatch& batch) {
    const NoGrad no_grad;
    const Tensor hidden = model.hidden(batch.input, {}).value().to(Device{}).to(DType::f32).contiguous();
    parallel_for(static_cast<int64_t>(batch.texts.size()), 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto b = static_cast<size_t>(i);
        pool(hidden.data<float>() + batch.starts[b] * width, batch.lengths[b], width, options,
             embeddings.data<float>() + static_cast<int64_t>(batch.texts[b]) * width);
      }
    });
  });
  return embeddings;
}

std::optional<SentenceModules> read_sentence_modules(const std::string& directory) {
  const fs::path root(directory);
  const std::string list = (root / "modules.json").string();
  if (!fs::exists(list)) return std::nullopt;
  const Json modules = load_json(list);
  if (!modules.is_array()) throw UsageError(concat("cannot read modules: not a list (", list, ")"));
  SentenceModules found;
  for (const Json& each : modules) {
    if (!each.is_object()) throw UsageError(concat("cannot read modules: not a list of objects (", list, ")"));
    const JsonReader module(each, list);
    const std::string type = module.require<std::string>("type");
    const std::string path = module.get<std::string>("path", "");
    if (fs::path(path).is_absolute() || path.find("..") != std::string::npos) {
      module.fail("path", concat(quoted_name(path), " leads out of the directory"));
    }
    const std::string kind = type.substr(type.rfind('.') + 1);
    if (kind == "Transformer") {
      found.model_directory = path.empty() ? directory : (root / path).string();
    } else if (kind == "Pooling") {
      const std::string file = (root / path / "config.json").string();
      const Json config = load_json(file);
      found.options.pooling = read_pooling(JsonReader(config, file));
    } else if (kind == "Normalize") {
      found.options.normalize = true;
    } else {
      module.fail("type", concat("module ", quoted_name(type), " is not supported"),
                  "supported: Transformer, Pooling, Normalize");
    }
  }
  if (found.model_directory.empty()) throw UsageError(concat("there is no Transformer module (", list, ")"));
  const std::string settings = (fs::path(found.model_directory) / "sentence_bert_config.json").string();
  if (fs::exists(settings)) {
    const Json document = load_json(settings);
    found.options.texts.max_tokens = JsonReader(document, settings).get<int64_t>("max_seq_length", 0, at_least(1));
    found.options.texts.truncate = true;
  }
  return found;
}

}  // namespace ondol
