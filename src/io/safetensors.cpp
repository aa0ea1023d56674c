#include <ondol/io/safetensors.h>

#include <algorithm>
#include <cstring>

#include "base/json_reader.h"
#include "io/safetensors_header.h"
#include "io/safetensors_layout.h"

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

void write_safetensors(const std::string& path, const NamedTensors& tensors, const SafetensorsWriteOptions& options) {
  write_safetensors(path, tensor_outputs(tensors, path), options);
}

void write_safetensors(const std::string& path, const std::vector<TensorOutput>& tensors,
                       const SafetensorsWriteOptions& options) {
  const std::vector<TensorOutline> outlines = outlines_of(tensors, options);
  const SafetensorsLayout layout = lay_out_safetensors(outlines, options.metadata, path);
  AtomicFile file(path);
  file.write(layout.head);
  for (const size_t i : layout.order) {
    const Tensor tensor = tensors[i].data();
    ONDOL_CHECK(tensor.shape() == tensors[i].shape, "cannot write safetensors: tensor ", quoted_name(tensors[i].name),
                " has shape ", tensor.shape(), ", not ", tensors[i].shape, " (", path, ")");
    const Tensor host = tensor.to(Device{}).to(outlines[i].dtype).contiguous();
    file.write(host.raw(), static_cast<size_t>(host.numel()) * dtype_size(host.dtype()));
  }
  file.commit();
}

}  // namespace ondol
