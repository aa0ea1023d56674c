// GGUF files and Hugging Face directories of the same models: names, layouts and configurations in both directions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ondol/io/gguf.h>

#include "base/json_reader.h"

namespace ondol {

/// How the rows and columns of a GGUF matrix lie to those of the Hugging Face one.
enum class GgufLayout {
  same,
  transposed,    // (out, in) against the (in, out) of GPT-2
  query_rotary,  // the rows of each query head interleave its halves: llama.cpp rotates neighbours, transformers halves
  key_rotary,
};

struct GgufArchitecture {
  using Names = std::vector<std::pair<const char*, const char*>>;  // GGUF, Hugging Face; without ".weight", ".bias"

  const char* name;        // general.architecture
  const char* model_type;  // of config.json
  const char* hf_layers;   // prefix of layer N, as "model.layers."; "blk." in GGUF files
  Names tensors;           // outside of layers
  Names layer_tensors;
  /// Configuration keys: GGUF (behind the architecture's name), Hugging Face. For messages too.
  Names keys;
};

/// Throws UsageError naming the architecture and the supported ones.
const GgufArchitecture& find_gguf_architecture(const GgufFile& file);
/// By model_type; throws UsageError (it cannot be written as GGUF).
const GgufArchitecture& gguf_architecture_of(const JsonReader& config);

/// "" when the architecture has no such tensor.
std::string hf_tensor_name(const GgufArchitecture& architecture, const std::string& gguf_name);
std::string gguf_tensor_name(const GgufArchitecture& architecture, const std::string& hf_name);
GgufLayout gguf_layout(const GgufArchitecture& architecture, const std::string& hf_name);

/// The configuration that config.json would hold. Missing and wrong values throw naming the GGUF key.
Json read_gguf_config(const GgufFile& file);
/// The metadata of a model apart from its tokenizer. `file_type` is general.file_type (llama.cpp's enumeration).
GgufMetadata write_gguf_config(const GgufArchitecture& architecture, const JsonReader& config, uint32_t file_type);

/// The factors that divide the rotary frequencies of Llama 3.1 (tensor rope_freqs.weight), for `rope_scaling` of a
/// configuration; empty for other kinds.
std::vector<float> gguf_rope_factors(const JsonReader& config);

/// A message about `key "num_hidden_layers"` as one about `key "llama.block_count"`.
std::string name_gguf_keys(const GgufArchitecture& architecture, std::string message);

}  // namespace ondol
