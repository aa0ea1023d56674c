#include <ondol/io/model_weights.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/json_reader.h"
#include "io/weight_shards.h"

namespace ondol {

namespace {

constexpr int64_t kPartBytes = int64_t{8} << 20;
constexpr uint64_t kMaxIndexBytes = uint64_t{16} << 20;

bool is_pickle(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt";
}

[[noreturn]] void refuse_pickle(const std::string& path) {
  throw Error("cannot read weights: pickle files can run code and are not read (" + path + ")",
              "convert them to safetensors with the framework that wrote them");
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.find('/') == std::string::npos && name.find('\\') == std::string::npos &&
         name.find('\0') == std::string::npos && name != "." && name != "..";
}

}  // namespace

ModelWeights::ModelWeights(const std::string& path) : path_(path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    if (is_pickle(path)) refuse_pickle(path);
    files_.emplace_back(path);
  } else if (fs::exists(path + "/" + kWeightsName, error)) {
    files_.emplace_back(path + "/" + kWeightsName);
  } else if (fs::exists(path + "/" + kWeightsIndexName, error)) {
    open_shards(path + "/" + kWeightsIndexName);
    return;
  } else {
    for (const auto& entry : fs::directory_iterator(path, error)) {
      const std::string name = entry.path().filename().string();
      if (is_pickle(entry.path()) && name != "training_args.bin") refuse_pickle(entry.path().string());
    }
    throw_error("no weights: neither ", kWeightsName, " nor ", kWeightsIndexName, " is there (", path, ")");
  }
  for (const SafetensorsEntry& entry : files_[0].entries()) {
    names_.push_back(entry.name);
    shard_of_.emplace(entry.name, 0);
  }
}

void ModelWeights::open_shards(const std::string& index_path) {
  const Json index = load_json(index_path, ErrorKind::failure, {.max_bytes = kMaxIndexBytes});
  const JsonReader reader(index, index_path, ErrorKind::failure);
  const Json& weight_map = reader.require_child("weight_map").object();
  const auto fail = [&](const auto&... why) { throw_error("cannot read weights: ", why..., " (", index_path, ")"); };

  std::map<std::string, size_t> shards;  // by name, so that the order of files does not depend on the order of tensors
  for (const auto& [name, shard] : weight_map.items()) {
    if (!shard.is_string()) fail("tensor ", quoted_name(name), ": its shard is not a name");
    const std::string& file = shard.get_ref<const std::string&>();
    if (!is_plain_name(file)) fail("tensor ", quoted_name(name), ": shard ", quoted_name(file), " is not a plain name");
    if (is_pickle(file)) refuse_pickle(path_ + "/" + file);
    shards.emplace(file, 0);
  }
  if (shards.empty()) fail("it lists no tensor");
  for (auto& [file, number] : shards) {
    std::error_code error;
    if (!std::filesystem::exists(path_ + "/" + file, error)) fail("shard ", quoted_name(file), " is missing");
    number = files_.size();
    files_.emplace_back(path_ + "/" + file);
  }
  for (const auto& [name, shard] : weight_map.items()) {
    const std::string& file = shard.get_ref<const std::string&>();
    const size_t number = shards.at(file);
    if (!files_[number].has(name)) {
      for (const auto& [other, other_number] : shards) {
        if (files_[other_number].has(name)) {
          fail("tensor ", quoted_name(name), ": listed in shard ", quoted_name(file), " but held by ",
               quoted_name(other));
        }
      }
      fail("tensor ", quoted_name(name), ": shard ", quoted_name(file), " does not hold it");
    }
    shard_of_.emplace(name, number);
  }
  for (size_t number = 0; number < files_.size(); ++number) {
    for (const SafetensorsEntry& entry : files_[number].entries()) {
      const auto listed = shard_of_.find(entry.name);
      if (listed != shard_of_.end() && listed->second == number) names_.push_back(entry.name);
    }
  }
}

const SafetensorsEntry* ModelWeights::find(const std::string& name) const {
  const auto shard = shard_of_.find(name);
  return shard == shard_of_.end() ? nullptr : files_[shard->second].find(name);
}

Tensor ModelWeights::tensor(const std::string& name) const {
  const auto shard = shard_of_.find(name);
  ONDOL_CHECK(shard != shard_of_.end(), "missing tensor ", quoted_name(name), ": not in the weights (", path_, ")");
  return files_[shard->second].tensor(name);
}

void ModelWeights::for_each_part(const std::string& name,
                                 const std::function<void(const Tensor& part, int64_t row)>& body) const {
  const Tensor whole = tensor(name);
  const SafetensorsFile& file = files_[shard_of_.at(name)];
  if (whole.ndim() == 0) return body(whole, 0);
  const int64_t rows = whole.size(0);
  const int64_t row_bytes =
      whole.numel() / std::max<int64_t>(rows, 1) * static_cast<int64_t>(dtype_size(whole.dtype()));
  const int64_t step = std::max<int64_t>(kPartBytes / std::max<int64_t>(row_bytes, 1), 1);
  for (int64_t row = 0; row < rows; row += step) {
    const Tensor part = whole.narrow(0, row, std::min(step, rows - row));
    body(part, row);
    file.release(part);
  }
}

void write_model_weights(const std::string& directory, const NamedTensors& tensors,
                         const WeightsWriteOptions& options) {
  write_model_weights(directory, tensor_outputs(tensors, directory), options);
}

void write_model_weights(const std::string& directory, const std::vector<TensorOutput>& tensors,
                         const WeightsWriteOptions& options) {
  const WeightShards shards = shard_weights(outlines_of(tensors, options.file), options.max_shard_bytes);
  for (const WeightShards::File& file : shards.files) {
    std::vector<TensorOutput> of_file;
    for (const size_t tensor : file.tensors) of_file.push_back(tensors[tensor]);
    write_safetensors(directory + "/" + file.name, of_file, options.file);
  }
  if (!shards.index.empty()) write_file_atomic(directory + "/" + kWeightsIndexName, shards.index);
  remove_other_form(directory, !shards.index.empty());
}

}  // namespace ondol
