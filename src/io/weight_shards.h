// The weights of a model as one file or, when that would be too large, as several with an index.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/safetensors_layout.h"

namespace ondol {

inline constexpr const char* kWeightsName = "model.safetensors";
inline constexpr const char* kWeightsIndexName = "model.safetensors.index.json";

struct WeightShards {
  struct File {
    std::string name;
    std::vector<size_t> tensors;  // their index
  };
  std::vector<File> files;
  std::string index;  // text of kWeightsIndexName; "" for one file
};

/// One tensor is never split. Throws Error on repeated names.
WeightShards shard_weights(const std::vector<TensorOutline>& tensors, uint64_t max_shard_bytes);

/// Removes what the directory holds of the form (one file, or several) that its weights do not have.
void remove_other_form(const std::string& directory, bool in_shards);

}  // namespace ondol
