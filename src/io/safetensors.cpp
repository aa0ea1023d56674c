#include <ondol/io/safetensors.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <unordered_set>

#include "base/json_reader.h"
#include "io/safetensors_header.h"

namespace ondol {

SafetensorsFile::Content::Content(const std::string& path) : file(path) {
  detail::SafetensorsHeader header =
      detail::parse_safetensors_header({reinterpret_cast<const char*>(file.data()), file.size()}, path);
  entries = std::move(header.entries);
  by_name = std::move(header.by_name);
  metadata = std::move(header.metadata);
}

SafetensorsFile::SafetensorsFile(const std::string& path) : content_(std::make_shared<const Content>(path)) {}

const SafetensorsEntry* SafetensorsFile::find(const std::string& name) const {
  const auto& entries = content_->entries;
  const auto place = std::lower_bound(content_->by_name.begin(), content_->by_name.end(), name,
                                      [&](uint32_t i, const std::string& wanted) { return entries[i].name < wanted; });
  if (place == content_->by_name.end() || entries[*place].name != name) return nullptr;
  return &entries[*place];
}

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const SafetensorsEntry* entry = find(name);
  ONDOL_CHECK(entry != nullptr, "no such tensor: ", quoted_name(name), " (", path(), ")");
  return tensor(*entry);
}

Tensor SafetensorsFile::tensor(const SafetensorsEntry& entry) const {
  const std::byte* data = bytes(entry);
  if (reinterpret_cast<uintptr_t>(data) % dtype_size(entry.dtype) != 0) {
    Tensor copy = Tensor::empty(entry.shape, entry.dtype);
    if (entry.bytes > 0) std::memcpy(copy.raw(), data, entry.bytes);
    return copy;
  }
  return Tensor::borrow(const_cast<std::byte*>(data), entry.shape, entry.dtype, [content = content_] {});
}

void SafetensorsFile::release(const Tensor& part) const {
  content_->file.release(part.raw(), static_cast<size_t>(part.numel()) * dtype_size(part.dtype()));
}

std::vector<TensorOutput> tensor_outputs(const NamedTensors& tensors, const std::string& path) {
  std::vector<TensorOutput> outputs;
  for (const auto& [name, tensor] : tensors) {
    ONDOL_CHECK(tensor.defined(), "cannot write safetensors: undefined tensor ", quoted_name(name), " (", path, ")");
    outputs.push_back({name, tensor.shape(), tensor.dtype(), [tensor = tensor] { return tensor; }});
  }
  return outputs;
}

WrittenFile write_safetensors(const std::string& path, const NamedTensors& tensors,
                              const SafetensorsWriteOptions& options) {
  return write_safetensors(path, tensor_outputs(tensors, path), options);
}

WrittenFile write_safetensors(const std::string& path, const std::vector<TensorOutput>& tensors,
                              const SafetensorsWriteOptions& options) {
  const auto written_dtype = [&](const TensorOutput& tensor) {
    return options.floating_dtype && is_floating(tensor.dtype) ? *options.floating_dtype : tensor.dtype;
  };
  std::unordered_set<std::string> names;
  for (const TensorOutput& tensor : tensors) {
    ONDOL_CHECK(names.insert(tensor.name).second && tensor.name != "__metadata__",
                "cannot write safetensors: repeated or reserved name ", quoted_name(tensor.name), " (", path, ")");
  }
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return dtype_size(written_dtype(tensors[a])) > dtype_size(written_dtype(tensors[b]));
  });

  std::string header = "{";
  if (!options.metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : options.metadata) {
      if (header.back() != '{') header += ',';
      header += Json(key).dump() + ":" + Json(value).dump();
    }
    header += '}';
  }
  uint64_t offset = 0;
  for (const size_t i : order) {
    const TensorOutput& tensor = tensors[i];
    const uint64_t end = offset + static_cast<uint64_t>(tensor.shape.numel()) * dtype_size(written_dtype(tensor));
    if (header.size() > 1) header += ',';
    header += Json(tensor.name).dump() + ":{\"dtype\":\"" + detail::safetensors_dtype_name(written_dtype(tensor)) +
              "\",\"shape\":[";
    for (int d = 0; d < tensor.shape.ndim(); ++d) header += (d > 0 ? "," : "") + std::to_string(tensor.shape[d]);
    header += concat("],\"data_offsets\":[", offset, ",", end, "]}");
    offset = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');

  AtomicFile file(path, options.checksum_chunk_bytes);
  char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  file.write(length, sizeof length);
  file.write(header);
  for (const size_t i : order) {
    const Tensor tensor = tensors[i].data();
    ONDOL_CHECK(tensor.shape() == tensors[i].shape, "cannot write safetensors: tensor ", quoted_name(tensors[i].name),
                " has shape ", tensor.shape(), ", not ", tensors[i].shape, " (", path, ")");
    const Tensor host = tensor.to(Device{}).to(written_dtype(tensors[i])).contiguous();
    file.write(host.raw(), static_cast<size_t>(host.numel()) * dtype_size(host.dtype()));
  }
  file.commit();
  return {path.substr(path.find_last_of('/') + 1), file.size(), file.checksums()};
}

}  // namespace ondol
