// Configurations: the metadata of GGUF files (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, section "LLM")
// against config.json.
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>

#include "models/gguf_architecture.h"
#include "models/rope_config.h"

namespace ondol {

namespace {

constexpr const char* kConfigKey = "huggingface.config";  // config.json as it was, for the settings GGUF has no key for

/// A number kept as f32, as the decimal fraction that was meant: 1e-5, not 9.9999997e-06.
double shortest(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(value));
  double decimal = value;
  std::from_chars(text, end.ptr, decimal);
  return decimal;
}

/// Reads the keys below an architecture's name.
class ConfigReader {
 public:
  ConfigReader(const GgufFile& file, const GgufArchitecture& architecture, Json& config)
      : file_(file), prefix_(concat(architecture.name, ".")), config_(config) {}

  std::string key(const char* name) const { return prefix_ + name; }

  /// A count; some files give one for each layer, which must then be the same.
  std::optional<int64_t> count(const char* name) const {
    const std::string full = key(name);
    const GgufValue* value = file_.find_value(full);
    if (value == nullptr) return std::nullopt;
    int64_t result = 0;
    if (value->is_array) {
      const std::vector<int64_t> all = *file_.integers(full);
      if (all.empty()) file_.fail(full, "the array is empty");
      for (const int64_t one : all) {
        if (one != all[0]) file_.fail(full, "layers that differ are not supported");
      }
      result = all[0];
    } else {
      result = *file_.integer(full);
    }
    if (result < 0) file_.fail(full, concat(result, " is out of range"));
    return result;
  }
  int64_t require(const char* name, const char* hf) {
    const std::optional<int64_t> value = count(name);
    if (!value) file_.fail(key(name), "it is missing");
    config_[hf] = *value;
    return *value;
  }
  void copy_number(const char* name, const char* hf, bool required) {
    const std::optional<double> value = file_.number(key(name));
    if (required && !value) file_.fail(key(name), "it is missing");
    if (value) config_[hf] = shortest(*value);
  }
  std::optional<double> number(const char* name) const { return file_.number(key(name)); }
  std::optional<std::string> text(const char* name) const { return file_.text(key(name)); }
  void refuse(const char* name, const std::string& why) const { file_.fail(key(name), why); }

 private:
  const GgufFile& file_;
  const std::string prefix_;
  Json& config_;
};

/// Pairs of a head and their unscaled frequencies.
std::vector<double> frequencies(double theta, size_t pairs) {
  std::vector<double> all;
  for (size_t i = 0; i < pairs; ++i)
    all.push_back(std::pow(theta, -static_cast<double>(i) / static_cast<double>(pairs)));
  return all;
}

/// What Llama 3.1 divides the frequency of each pair by.
std::vector<float> llama3_factors(const RopeConfig& rope) {
  std::vector<float> factors;
  for (const double frequency : frequencies(rope.theta, static_cast<size_t>(rope.head_dim / 2))) {
    const double turns = static_cast<double>(rope.original_max_positions) * frequency / (2.0 * std::numbers::pi);
    const double blend = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
    const double kept = turns < rope.low_freq_factor    ? 1.0 / rope.factor
                        : turns > rope.high_freq_factor ? 1.0
                                                        : (1.0 - blend) / rope.factor + blend;
    factors.push_back(static_cast<float>(1.0 / kept));
  }
  return factors;
}

bool reproduces(const RopeConfig& rope, const std::vector<float>& factors) {
  const std::vector<float> made = llama3_factors(rope);
  for (size_t i = 0; i < factors.size(); ++i) {
    if (!(std::abs(made[i] - factors[i]) <= 1e-4f * factors[i])) return false;
  }
  return true;
}

/// The settings of Llama 3.1 behind a file's factors. Between its limits the blend is a line over the frequency, which
/// two pairs settle; scaling context and both limits changes nothing, so that the lower limit counts as 1.
std::optional<RopeConfig> fit_llama3(const std::vector<float>& factors, double theta) {
  RopeConfig rope;
  rope.type = "llama3";
  rope.theta = theta;
  rope.head_dim = static_cast<int64_t>(2 * factors.size());
  rope.factor = factors.back();
  if (!(rope.factor > 1.0)) return std::nullopt;
  rope.original_max_positions = 8192;  // the published models: limits 1 and 4
  if (reproduces(rope, factors)) return rope;
  const std::vector<double> all = frequencies(theta, factors.size());
  std::vector<std::pair<double, double>> points;  // frequency, blend
  for (size_t i = 0; i < factors.size(); ++i) {
    const double blend = (1.0 / factors[i] - 1.0 / rope.factor) / (1.0 - 1.0 / rope.factor);
    if (blend > 1e-4 && blend < 1.0 - 1e-4) points.emplace_back(all[i], blend);
  }
  if (points.size() < 2) return std::nullopt;
  const auto& [f0, b0] = points.front();
  const auto& [f1, b1] = points.back();
  const double slope = (b0 - b1) / (f0 - f1), low = b0 - slope * f0;
  if (!(low < 0.0) || !(slope > 0.0)) return std::nullopt;
  const double context = 2.0 * std::numbers::pi * slope / -low;
  rope.high_freq_factor = shortest(1.0 - 1.0 / low);
  rope.original_max_positions = std::llround(std::min(context, 1e9));
  return rope.original_max_positions > 0 && reproduces(rope, factors) ? std::optional(rope) : std::nullopt;
}

void read_rope(const GgufFile& file, const ConfigReader& in, int64_t head_dim, Json& config) {
  if (const std::optional<int64_t> rotary = in.count("rope.dimension_count"); rotary && *rotary != head_dim) {
    in.refuse("rope.dimension_count",
              concat(*rotary, " of the ", head_dim, " elements of a head: rotating a part of them is not supported"));
  }
  const double theta = shortest(in.number("rope.freq_base").value_or(10000.0));
  const RopeConfig kept = read_rope_config(JsonReader(config, file.path(), ErrorKind::failure), head_dim, 1);
  config["rope_theta"] = theta;
  config.erase("rope_parameters");
  config["rope_scaling"] = nullptr;
  const std::string type = in.text("rope.scaling.type").value_or("none");
  if (const GgufTensor* factors = file.find("rope_freqs.weight")) {
    const std::string name = "rope_freqs.weight";
    if (factors->shape != Shape{head_dim / 2} || factors->type->dtype != DType::f32) {
      throw_error("tensor \"", name, "\" has shape ", factors->shape, " and type ", factors->type->name, ", (",
                  head_dim / 2, ") and F32 are expected (", file.path(), ")");
    }
    const std::vector<float> values = file.tensor(*factors).to_vector<float>();
    const bool known = kept.type == "llama3" && kept.theta == theta && reproduces(kept, values);
    const std::optional<RopeConfig> rope = known ? kept : fit_llama3(values, theta);
    if (!rope) {
      throw_error("tensor \"", name, "\": its factors are not those of Llama 3.1, the only kind that is supported (",
                  file.path(), ")");
    }
    config["rope_scaling"] = {{"rope_type", "llama3"},
                              {"factor", shortest(rope->factor)},
                              {"low_freq_factor", rope->low_freq_factor},
                              {"high_freq_factor", rope->high_freq_factor},
                              {"original_max_position_embeddings", rope->original_max_positions}};
  } else if (type == "linear") {
    const std::optional<double> factor = in.number("rope.scaling.factor");
    if (!factor) in.refuse("rope.scaling.factor", "it is missing");
    config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", shortest(*factor)}};
  } else if (type != "none") {
    in.refuse("rope.scaling.type", concat(quoted_name(type), " is not supported: none and linear are"));
  }
}

void read_vocabulary(const GgufFile& file, ConfigReader& in, Json& config) {
  const GgufTensor* embedding = file.find("token_embd.weight");
  const std::optional<int64_t> size = in.count("vocab_size");
  if (size) {
    config["vocab_size"] = *size;
  } else if (embedding != nullptr && embedding->shape.ndim() == 2) {
    config["vocab_size"] = embedding->shape[0];
  } else {
    in.refuse("vocab_size", "it is missing, and so is a tensor token_embd.weight");
  }
  config["tie_word_embeddings"] = file.find("output.weight") == nullptr;
}

void read_llama(const GgufFile& file, ConfigReader& in, Json& config) {
  const int64_t hidden = in.require("embedding_length", "hidden_size");
  in.require("block_count", "num_hidden_layers");
  in.require("context_length", "max_position_embeddings");
  in.require("feed_forward_length", "intermediate_size");
  const int64_t heads = in.require("attention.head_count", "num_attention_heads");
  config["num_key_value_heads"] = in.count("attention.head_count_kv").value_or(heads);
  in.copy_number("attention.layer_norm_rms_epsilon", "rms_norm_eps", true);
  const std::optional<int64_t> key_length = in.count("attention.key_length");
  const std::optional<int64_t> value_length = in.count("attention.value_length");
  if (value_length && *value_length != key_length.value_or(heads == 0 ? 0 : hidden / heads)) {
    in.refuse("attention.value_length", "values of another size than keys are not supported");
  }
  if (heads == 0) in.refuse("attention.head_count", "0 is out of range");
  if (key_length) config["head_dim"] = *key_length;
  if (in.count("expert_count").value_or(0) != 0) in.refuse("expert_count", "mixtures of experts are not supported");
  read_rope(file, in, key_length.value_or(hidden / heads), config);
  config["hidden_act"] = "silu";
  config["attention_bias"] = file.find("blk.0.attn_q.bias") != nullptr;
  config["mlp_bias"] = file.find("blk.0.ffn_up.bias") != nullptr;
  config["architectures"] = Json::array({"LlamaForCausalLM"});
}

void read_gpt2(const GgufFile&, ConfigReader& in, Json& config) {
  in.require("embedding_length", "n_embd");
  in.require("block_count", "n_layer");
  in.require("context_length", "n_positions");
  in.require("feed_forward_length", "n_inner");
  in.require("attention.head_count", "n_head");
  in.copy_number("attention.layer_norm_epsilon", "layer_norm_epsilon", true);
  config["activation_function"] = "gelu_new";
  config["architectures"] = Json::array({"GPT2LMHeadModel"});
}

void read_token_ids(const GgufFile& file, Json& config) {
  const auto id = [&](const char* role) { return file.integer(concat("tokenizer.ggml.", role, "_token_id")); };
  if (const auto bos = id("bos")) config["bos_token_id"] = *bos;
  if (const auto pad = id("padding")) config["pad_token_id"] = *pad;
  if (const auto eos = id("eos")) {
    const auto turn = id("eot");
    config["eos_token_id"] = turn && *turn != *eos ? Json::array({*eos, *turn}) : Json(*eos);
  }
}

/// How most of the weights are stored, as config.json says it.
const char* stored_dtype(const GgufFile& file) {
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || !embedding->type->dtype) return "float32";
  return *embedding->type->dtype == DType::bf16  ? "bfloat16"
         : *embedding->type->dtype == DType::f16 ? "float16"
                                                 : "float32";
}

}  // namespace

Json read_gguf_config(const GgufFile& file) {
  const GgufArchitecture& architecture = find_gguf_architecture(file);
  Json config = Json::object();
  if (const std::optional<std::string> text = file.text(kConfigKey)) {
    config = parse_json(*text, concat(file.path(), ", key \"", kConfigKey, "\""), ErrorKind::failure);
    if (!config.is_object()) file.fail(kConfigKey, "a JSON object is expected");
  }
  config["model_type"] = architecture.model_type;
  config["torch_dtype"] = config["dtype"] = stored_dtype(file);
  ConfigReader in(file, architecture, config);
  if (architecture.name == std::string_view("llama")) {
    read_llama(file, in, config);
  } else {
    read_gpt2(file, in, config);
  }
  read_vocabulary(file, in, config);
  read_token_ids(file, config);
  return config;
}

std::vector<float> gguf_rope_factors(const JsonReader& config) {
  if (config.require<std::string>("model_type") != "llama") return {};
  const auto heads = config.require<int64_t>("num_attention_heads", at_least(1));
  const auto hidden = config.require<int64_t>("hidden_size", at_least(1));
  const RopeConfig rope = read_rope_config(config, config.get<int64_t>("head_dim", hidden / heads), 1);
  return rope.type == "llama3" ? llama3_factors(rope) : std::vector<float>{};
}

GgufMetadata write_gguf_config(const GgufArchitecture& architecture, const JsonReader& config, uint32_t file_type) {
  const auto key = [&](const char* name) { return concat(architecture.name, ".", name); };
  const auto count = [&](const char* hf) {
    return static_cast<uint32_t>(config.require<int64_t>(hf, between(0, 4294967295.0)));
  };
  GgufMetadata metadata = {{"general.architecture", architecture.name},
                           {"general.type", "model"},
                           {"general.file_type", file_type},
                           {"general.quantization_version", uint32_t{2}}};
  const auto add = [&](const char* name, GgufScalar value) { metadata.emplace_back(key(name), std::move(value)); };
  if (architecture.name == std::string_view("llama")) {
    const uint32_t heads = count("num_attention_heads"), hidden = count("hidden_size");
    const auto head_dim = static_cast<uint32_t>(config.get<int64_t>("head_dim", hidden / std::max(heads, 1u)));
    add("block_count", count("num_hidden_layers"));
    add("context_length", count("max_position_embeddings"));
    add("embedding_length", hidden);
    add("feed_forward_length", count("intermediate_size"));
    add("attention.head_count", heads);
    add("attention.head_count_kv", static_cast<uint32_t>(config.get<int64_t>("num_key_value_heads", heads)));
    add("attention.layer_norm_rms_epsilon", config.get<float>("rms_norm_eps", 1e-6f));
    if (config.has("head_dim")) {
      add("attention.key_length", head_dim);
      add("attention.value_length", head_dim);
    }
    const RopeConfig rope = read_rope_config(config, head_dim, 1);
    add("rope.dimension_count", head_dim);
    add("rope.freq_base", static_cast<float>(rope.theta));
    if (rope.type == "linear") {
      add("rope.scaling.type", "linear");
      add("rope.scaling.factor", static_cast<float>(rope.factor));
    }
    add("vocab_size", count("vocab_size"));
  } else {
    const uint32_t hidden = count("n_embd");
    add("block_count", count("n_layer"));
    add("context_length", count("n_positions"));
    add("embedding_length", hidden);
    add("feed_forward_length", static_cast<uint32_t>(config.get<int64_t>("n_inner", int64_t{4} * hidden)));
    add("attention.head_count", count("n_head"));
    add("attention.layer_norm_epsilon", config.get<float>("layer_norm_epsilon", 1e-5f));
    add("vocab_size", count("vocab_size"));
  }
  metadata.emplace_back(kConfigKey, config.object().dump());
  return metadata;
}

}  // namespace ondol
