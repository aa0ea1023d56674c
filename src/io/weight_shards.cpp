#include "io/weight_shards.h"

#include <algorithm>
#include <cstdio>

#include "base/json_reader.h"

namespace ondol {

WeightShards shard_weights(const std::vector<TensorOutline>& tensors, uint64_t max_shard_bytes) {
  WeightShards shards{{{kWeightsName, {}}}, ""};
  uint64_t filled = 0, total = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t bytes = tensors[i].bytes();
    if (filled > 0 && bytes > max_shard_bytes - std::min(filled, max_shard_bytes)) {
      shards.files.emplace_back();
      filled = 0;
    }
    shards.files.back().tensors.push_back(i);
    filled += bytes;
    total += bytes;
  }
  if (shards.files.size() == 1) return shards;
  Json weight_map = Json::object();
  for (size_t i = 0; i < shards.files.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.files.size());
    shards.files[i].name = name;
    for (const size_t tensor : shards.files[i].tensors) {
      ONDOL_CHECK(!weight_map.contains(tensors[tensor].name), "cannot write weights: repeated name ",
                  quoted_name(tensors[tensor].name));
      weight_map[tensors[tensor].name] = name;
    }
  }
  shards.index = Json{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}}.dump(2) + "\n";
  return shards;
}

void remove_other_form(const std::string& directory, bool in_shards) {
  const char* other = in_shards ? kWeightsName : kWeightsIndexName;
  file_operations().unlink((directory + "/" + other).c_str());
}

}  // namespace ondol
