// The weights of a model directory: `model.safetensors`, or shards named by `model.safetensors.index.json`.
//
//   ModelWeights weights("path/to/model");
//   Tensor embedding = weights.tensor("model.embed_tokens.weight");   // a view of a mapped file
//   write_model_weights("out", tensors);                              // one file, or shards when it would be too large
//
// Nothing outside the directory is opened: a shard is a plain file name. Pickle files (.bin, .pt, .pth) are refused.
#pragma once

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include <ondol/io/safetensors.h>

namespace ondol {

class ModelWeights {
 public:
  /// A model directory, or one .safetensors file. Throws Error naming the shard and tensor at fault.
  explicit ModelWeights(const std::string& path);

  /// In file order, shard by shard.
  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) const { return shard_of_.contains(name); }
  /// nullptr when there is none of that name.
  const SafetensorsEntry* find(const std::string& name) const;
  /// Throws when there is none of that name; see SafetensorsFile::tensor.
  Tensor tensor(const std::string& name) const;
  /// body(rows [row, row + n) of the tensor, row), from the first to the last row, a few MiB at a time; the memory of
  /// the file is given back behind each part, so that a walk over a large file needs little. A scalar comes whole, row
  /// 0.
  void for_each_part(const std::string& name, const std::function<void(const Tensor& part, int64_t row)>& body) const;
  const std::vector<SafetensorsFile>& files() const { return files_; }
  const std::string& path() const { return path_; }

 private:
  void open_shards(const std::string& index_path);

  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, size_t> shard_of_;
};

struct WeightsWriteOptions {
  SafetensorsWriteOptions file = {};
  /// A larger model is split; one tensor is never split.
  uint64_t max_shard_bytes = uint64_t{5} * 1000 * 1000 * 1000;
};

/// Writes model.safetensors, or model-0000I-of-0000N.safetensors and the index, and removes what the directory held of
/// the other form.
void write_model_weights(const std::string& directory, const NamedTensors& tensors,
                         const WeightsWriteOptions& options = {});
void write_model_weights(const std::string& directory, const std::vector<TensorOutput>& tensors,
                         const WeightsWriteOptions& options = {});

}  // namespace ondol
