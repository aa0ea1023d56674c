#include "models/gguf_architecture.h"

namespace ondol {

namespace {

const GgufArchitecture kArchitectures[] = {
    {"llama",
     "llama",
     "model.layers.",
     {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}},
     {{"attn_norm", "input_layernorm"},
      {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"},
      {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}},
     {{"block_count", "num_hidden_layers"},
      {"context_length", "max_position_embeddings"},
      {"embedding_length", "hidden_size"},
      {"feed_forward_length", "intermediate_size"},
      {"attention.head_count", "num_attention_heads"},
      {"attention.head_count_kv", "num_key_value_heads"},
      {"attention.key_length", "head_dim"},
      {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
      {"vocab_size", "vocab_size"},
      {"rope.freq_base", "rope_theta"},
      {"rope.scaling.factor", "rope_scaling.factor"}}},
    {"gpt2",
     "gpt2",
     "transformer.h.",
     {{"token_embd", "transformer.wte"},
      {"position_embd", "transformer.wpe"},
      {"output_norm", "transformer.ln_f"},
      {"output", "lm_head"}},
     {{"attn_norm", "ln_1"},
      {"attn_qkv", "attn.c_attn"},
      {"attn_output", "attn.c_proj"},
      {"ffn_norm", "ln_2"},
      {"ffn_up", "mlp.c_fc"},
      {"ffn_down", "mlp.c_proj"}},
     {{"block_count", "n_layer"},
      {"context_length", "n_positions"},
      {"embedding_length", "n_embd"},
      {"feed_forward_length", "n_inner"},
      {"attention.head_count", "n_head"},
      {"attention.layer_norm_epsilon", "layer_norm_epsilon"},
      {"vocab_size", "vocab_size"}}},
};

std::string supported() {
  std::string names;
  for (const GgufArchitecture& architecture : kArchitectures)
    names += concat(names.empty() ? "" : ", ", architecture.name);
  return "supported: " + names;
}

/// "STEM.weight" to {"STEM", ".weight"}; the ending is empty when there is none of the two.
std::pair<std::string_view, std::string_view> split_name(std::string_view name) {
  for (const std::string_view ending : {std::string_view(".weight"), std::string_view(".bias")}) {
    if (name.ends_with(ending)) return {name.substr(0, name.size() - ending.size()), ending};
  }
  return {name, ""};
}

/// "PREFIX12.REST" to {"12", "REST"}; empty when it is not of that form.
std::pair<std::string_view, std::string_view> split_layer(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {};
  name.remove_prefix(prefix.size());
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  if (digits == 0 || digits > 9 || digits >= name.size() || name[digits] != '.') return {};
  return {name.substr(0, digits), name.substr(digits + 1)};
}

constexpr const char* kGgufLayers = "blk.";

}  // namespace

const GgufArchitecture& find_gguf_architecture(const GgufFile& file) {
  const std::string name = file.require_text("general.architecture");
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (name == architecture.name) return architecture;
  }
  throw UsageError(concat("general.architecture ", quoted_name(name), " is not supported (", file.path(), ")"),
                   supported());
}

const GgufArchitecture& gguf_architecture_of(const JsonReader& config) {
  const std::string type = config.require<std::string>("model_type");
  for (const GgufArchitecture& architecture : kArchitectures) {
    if (type == architecture.model_type) return architecture;
  }
  throw UsageError(concat("model type ", quoted_name(type), " cannot be written as GGUF (", config.file(), ")"),
                   supported());
}

std::string hf_tensor_name(const GgufArchitecture& architecture, const std::string& gguf_name) {
  const auto [stem, ending] = split_name(gguf_name);
  const auto [layer, rest] = split_layer(stem, kGgufLayers);
  for (const auto& [gguf, hf] : layer.empty() ? architecture.tensors : architecture.layer_tensors) {
    if (layer.empty() && stem == gguf) return concat(hf, ending);
    if (!layer.empty() && rest == gguf) return concat(architecture.hf_layers, layer, ".", hf, ending);
  }
  return "";
}

std::string gguf_tensor_name(const GgufArchitecture& architecture, const std::string& hf_name) {
  const auto [stem, ending] = split_name(hf_name);
  const auto [layer, rest] = split_layer(stem, architecture.hf_layers);
  for (const auto& [gguf, hf] : layer.empty() ? architecture.tensors : architecture.layer_tensors) {
    if (layer.empty() && stem == hf) return concat(gguf, ending);
    if (!layer.empty() && rest == hf) return concat(kGgufLayers, layer, ".", gguf, ending);
  }
  return "";
}

GgufLayout gguf_layout(const GgufArchitecture& architecture, const std::string& hf_name) {
  const std::string_view stem = split_name(hf_name).first;
  if (architecture.name == std::string_view("llama")) {
    if (stem.ends_with(".q_proj")) return GgufLayout::query_rotary;
    if (stem.ends_with(".k_proj")) return GgufLayout::key_rotary;
  } else if (architecture.name == std::string_view("gpt2") && hf_name.ends_with(".weight")) {
    for (const char* projection : {".c_attn", ".c_proj", ".c_fc"}) {
      if (stem.ends_with(projection)) return GgufLayout::transposed;
    }
  }
  return GgufLayout::same;
}

std::string name_gguf_keys(const GgufArchitecture& architecture, std::string message) {
  for (const auto& [gguf, hf] : architecture.keys) {
    const std::string from = concat("key \"", hf, "\"");
    const size_t place = message.find(from);
    if (place == std::string::npos) continue;
    return message.replace(place, from.size(), concat("key \"", architecture.name, ".", gguf, "\""));
  }
  return message;
}

}  // namespace ondol
