#include "models/family.h"

namespace ondol {

namespace {

std::optional<int32_t> read_token_id(const JsonReader& config, const char* key) {
  if (!config.has(key)) return std::nullopt;
  return config.require<int32_t>(key, at_least(-1)) < 0 ? std::nullopt : std::optional(config.require<int32_t>(key));
}

std::vector<int32_t> read_eos_ids(const JsonReader& config) {
  if (!config.has("eos_token_id")) return {};
  if (config.raw("eos_token_id").is_array()) return config.require<std::vector<int32_t>>("eos_token_id", at_least(0));
  const std::optional<int32_t> id = read_token_id(config, "eos_token_id");
  return id ? std::vector<int32_t>{*id} : std::vector<int32_t>{};
}

std::vector<int32_t> read_ids(const JsonReader& config, const char* key) {
  if (!config.has(key)) return {};
  if (config.raw(key).is_array()) return config.require<std::vector<int32_t>>(key, at_least(0));
  return {config.require<int32_t>(key, at_least(0))};
}

TokenRules read_token_rules(const JsonReader& config) {
  TokenRules rules;
  rules.forced_bos_token_id = read_token_id(config, "forced_bos_token_id");
  rules.forced_eos_token_ids = read_ids(config, "forced_eos_token_id");
  rules.min_length = config.get<int64_t>("min_length", 0, at_least(0));
  rules.min_new_tokens = config.get<int64_t>("min_new_tokens", 0, at_least(0));
  rules.no_repeat_ngram_size = config.get<int64_t>("no_repeat_ngram_size", 0, between(0, 1 << 20));
  return rules;
}

/// Settings of generation that older files keep in config.json.
constexpr const char* kGenerationKeys[] = {
    "bos_token_id",        "eos_token_id", "pad_token_id",   "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "min_length",   "min_new_tokens", "no_repeat_ngram_size"};

}  // namespace

Activation read_activation(const JsonReader& config, const std::string& key, const std::string& fallback) {
  try {
    return activation_from_name(config.get<std::string>(key, fallback));
  } catch (const UsageError& error) {
    if (!config.has(key) || !config.raw(key).is_string()) throw;
    config.fail(key, error.what(), error.hint());
  }
}

FamilyModel::FamilyModel(const JsonReader& config) : config_(config.object()) {
  info_.model_type = model_type_of(config);
  info_.bos_token_id = read_token_id(config, "bos_token_id");
  info_.pad_token_id = read_token_id(config, "pad_token_id");
  info_.eos_token_ids = read_eos_ids(config);
  info_.decoder_start_token_id = read_token_id(config, "decoder_start_token_id");
  info_.token_rules = read_token_rules(config);
  Json generation = Json::object();
  generation["_from_model_config"] = true;
  for (const char* key : kGenerationKeys) {
    if (config.has(key)) generation[key] = config.raw(key);
  }
  generation_config_ = std::move(generation);
}

void FamilyModel::set_generation_config(Json config, const std::string& file) {
  const JsonReader reader(config, file);
  if (reader.has("eos_token_id")) info_.eos_token_ids = read_eos_ids(reader);
  if (reader.has("decoder_start_token_id")) {
    info_.decoder_start_token_id = read_token_id(reader, "decoder_start_token_id");
  }
  info_.token_rules = read_token_rules(reader);
  generation_config_ = std::move(config);
}

Variable FamilyModel::add_weight(const std::string& name, const Shape& shape, const Init& init, bool transposed) {
  Variable parameter = parameters_.add(name, shape, init);
  slots_.push_back({name, parameter, 0, -1, transposed, transposed ? Shape{shape[1], shape[0]} : shape});
  return parameter;
}

Variable FamilyModel::add_buffer(const std::string& name, const Shape& shape, const Init& init) {
  Variable buffer = parameters_.add_buffer(name, shape, init);
  slots_.push_back({name, buffer, 0, -1, false, shape});
  return buffer;
}

Variable FamilyModel::add_fused(const std::string& name, const std::vector<Part>& parts, int64_t columns,
                                const Init& init) {
  int64_t rows = 0;
  for (const Part& part : parts) rows += part.rows;
  Variable parameter = parameters_.add(name, columns > 0 ? Shape{rows, columns} : Shape{rows}, init);
  int64_t start = 0;
  for (const Part& part : parts) {
    slots_.push_back(
        {part.name, parameter, start, part.rows, false, columns > 0 ? Shape{part.rows, columns} : Shape{part.rows}});
    start += part.rows;
  }
  return parameter;
}

}  // namespace ondol
