#include "io/safetensors_layout.h"

#include <algorithm>
#include <numeric>
#include <unordered_set>

#include "base/json_reader.h"
#include "io/safetensors_header.h"

namespace ondol {

std::vector<TensorOutline> outlines_of(const std::vector<TensorOutput>& tensors,
                                       const SafetensorsWriteOptions& options) {
  std::vector<TensorOutline> outlines;
  for (const TensorOutput& tensor : tensors) {
    const DType dtype = options.floating_dtype && is_floating(tensor.dtype) ? *options.floating_dtype : tensor.dtype;
    outlines.push_back({tensor.name, tensor.shape, dtype});
  }
  return outlines;
}

SafetensorsLayout lay_out_safetensors(const std::vector<TensorOutline>& tensors, const SafetensorsMetadata& metadata,
                                      const std::string& path) {
  std::unordered_set<std::string> names;
  for (const TensorOutline& tensor : tensors) {
    ONDOL_CHECK(names.insert(tensor.name).second && tensor.name != "__metadata__",
                "cannot write safetensors: repeated or reserved name ", quoted_name(tensor.name), " (", path, ")");
  }
  SafetensorsLayout layout;
  layout.order.resize(tensors.size());
  layout.offsets.resize(tensors.size());
  std::iota(layout.order.begin(), layout.order.end(), size_t{0});
  std::stable_sort(layout.order.begin(), layout.order.end(),
                   [&](size_t a, size_t b) { return dtype_size(tensors[a].dtype) > dtype_size(tensors[b].dtype); });

  std::string header = "{";
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      if (header.back() != '{') header += ',';
      header += Json(key).dump() + ":" + Json(value).dump();
    }
    header += '}';
  }
  uint64_t offset = 0;
  for (const size_t i : layout.order) {
    const TensorOutline& tensor = tensors[i];
    const uint64_t end = offset + tensor.bytes();
    if (header.size() > 1) header += ',';
    header +=
        Json(tensor.name).dump() + ":{\"dtype\":\"" + detail::safetensors_dtype_name(tensor.dtype) + "\",\"shape\":[";
    for (int d = 0; d < tensor.shape.ndim(); ++d) header += (d > 0 ? "," : "") + std::to_string(tensor.shape[d]);
    header += concat("],\"data_offsets\":[", offset, ",", end, "]}");
    layout.offsets[i] = offset;
    offset = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  for (int i = 0; i < 8; ++i) layout.head += static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  layout.head += header;
  for (uint64_t& place : layout.offsets) place += layout.head.size();
  layout.bytes = layout.head.size() + offset;
  return layout;
}

}  // namespace ondol
