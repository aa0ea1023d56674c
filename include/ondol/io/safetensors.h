// safetensors files: named tensors behind a JSON header.
//
//   SafetensorsFile file("model.safetensors");
//   for (const SafetensorsEntry& entry : file.entries()) …          // name, dtype, shape, place
//   Tensor weight = file.tensor("model.norm.weight");               // a view of the mapped file: read-only
//   write_safetensors("out.safetensors", {{"weight", weight}});
//
// Layout: u64 little-endian header length, the header `{"NAME": {"dtype", "shape", "data_offsets": [begin, end]}, …,
// "__metadata__": {string: string}}`, then the data, row-major little-endian. Everything in the header is checked
// against the file before it is used: length (at most 100 MB), offsets (inside the file, no overlap, no hole, nothing
// left over), shape times element size, repeated names, dtypes. Errors: `cannot read safetensors: tensor "x": WHY
// (FILE)`. Format: https://github.com/huggingface/safetensors, section "Format".
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ondol/base/file.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

struct SafetensorsEntry {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
  uint64_t offset = 0;  // in the file, bytes
  uint64_t bytes = 0;
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// A cheap handle; copies share the mapping, and so do the tensors made from it.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  /// In order of their place in the file.
  const std::vector<SafetensorsEntry>& entries() const { return content_->entries; }
  const SafetensorsMetadata& metadata() const { return content_->metadata; }
  const std::string& path() const { return content_->file.path(); }

  /// nullptr when there is none of that name.
  const SafetensorsEntry* find(const std::string& name) const;
  bool has(const std::string& name) const { return find(name) != nullptr; }

  /// A CPU tensor on the mapped bytes, not to be written to (a copy when the file places it off its alignment). The
  /// mapping lives as long as the tensor. Throws when there is none of that name.
  Tensor tensor(const std::string& name) const;
  Tensor tensor(const SafetensorsEntry& entry) const;
  const std::byte* bytes(const SafetensorsEntry& entry) const { return content_->file.data() + entry.offset; }
  /// Gives the memory of a contiguous tensor on the mapped bytes back to the system, until it is read again.
  void release(const Tensor& part) const;

 private:
  struct Content {
    explicit Content(const std::string& path);
    MappedFile file;
    std::vector<SafetensorsEntry> entries;
    std::vector<uint32_t> by_name;  // indices of entries, sorted by name
    SafetensorsMetadata metadata;
  };
  std::shared_ptr<const Content> content_;
};

struct SafetensorsWriteOptions {
  SafetensorsMetadata metadata = {{"format", "pt"}};
  /// Floating-point tensors are converted to this on the way, one at a time.
  std::optional<DType> floating_dtype = std::nullopt;
};

/// A tensor to write. `data` is called once, when its turn has come.
struct TensorOutput {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
  std::function<Tensor()> data;
};

/// Writes atomically. Tensors of any device and stride are taken one at a time, so that memory stays flat. Data lie in
/// the order given, those of wider elements first (every tensor is then aligned). Throws on repeated names.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const SafetensorsWriteOptions& options = {});
void write_safetensors(const std::string& path, const std::vector<TensorOutput>& tensors,
                       const SafetensorsWriteOptions& options = {});

/// Tensors that are there already, as outputs.
std::vector<TensorOutput> tensor_outputs(const NamedTensors& tensors, const std::string& path);

}  // namespace ondol
