#include "models/gguf_source.h"

#include <algorithm>

namespace ondol {

namespace {

constexpr int64_t kPartElements = int64_t{2} << 20;

/// Reads (heads, a, b, ..) as (heads, b, a, ..).
Tensor swap_in_heads(const Tensor& rows, int64_t heads, int64_t a, int64_t b) {
  const int64_t columns = rows.ndim() > 1 ? rows.size(1) : 1;
  return rows.reshape({heads, a, b, columns}).transpose(1, 2).contiguous().reshape(rows.shape());
}

int64_t half_head(const Tensor& rows, int64_t heads) {
  ONDOL_CHECK(heads > 0 && rows.size(0) % (2 * heads) == 0, rows.size(0), " rows are not ", heads, " even heads");
  return rows.size(0) / heads / 2;
}

}  // namespace

Tensor split_heads(const Tensor& rows, int64_t heads) { return swap_in_heads(rows, heads, half_head(rows, heads), 2); }

Tensor interleave_heads(const Tensor& rows, int64_t heads) {
  return swap_in_heads(rows, heads, 2, half_head(rows, heads));
}

GgufSource::GgufSource(GgufFile file, const JsonReader& config)
    : file_(std::move(file)), architecture_(find_gguf_architecture(file_)) {
  if (config.has("num_attention_heads")) {
    query_heads_ = config.require<int64_t>("num_attention_heads");
    key_heads_ = config.get<int64_t>("num_key_value_heads", query_heads_);
  }
  for (const GgufTensor& tensor : file_.tensors()) {
    if (tensor.name == "rope_freqs.weight") continue;  // part of the configuration
    const std::string name = hf_tensor_name(architecture_, tensor.name);
    ONDOL_CHECK(!name.empty(), "unexpected tensor ", quoted_name(tensor.name), ": the architecture ",
                architecture_.name, " has no such weight (", file_.path(), ")");
    names_.push_back(name);
    entries_.emplace(name, &tensor);
  }
}

Shape GgufSource::shape(const std::string& name) const {
  const Shape& shape = entry(name).shape;
  const bool transposed = gguf_layout(architecture_, name) == GgufLayout::transposed && shape.ndim() == 2;
  return transposed ? Shape{shape[1], shape[0]} : shape;
}

bool GgufSource::is_floating(const std::string& name) const {
  const GgufTensorType& type = *entry(name).type;
  return !type.dtype || ondol::is_floating(*type.dtype);
}

int64_t GgufSource::interleaved_heads(const std::string& name) const {
  const GgufLayout layout = gguf_layout(architecture_, name);
  return layout == GgufLayout::query_rotary ? query_heads_ : layout == GgufLayout::key_rotary ? key_heads_ : 0;
}

void GgufSource::for_each_part(const std::string& name,
                               const std::function<void(const Tensor& part, int64_t row)>& body) const {
  const GgufTensor& stored = entry(name);
  const Tensor whole = file_.tensor(stored);
  if (whole.ndim() == 0 || gguf_layout(architecture_, name) != GgufLayout::same) {
    body(tensor(name), 0);
    file_.release(whole);
    return;
  }
  const int64_t rows = whole.size(0);
  const int64_t row_elements = stored.shape.numel() / std::max<int64_t>(rows, 1);
  const int64_t step = std::max<int64_t>(kPartElements / std::max<int64_t>(row_elements, 1), 1);
  for (int64_t row = 0; row < rows; row += step) {
    const Tensor part = whole.narrow(0, row, std::min(step, rows - row));
    body(stored.type->format
             ? ops::dequantize(QuantizedMatrix{part, *stored.type->format, stored.shape[-1]}, DType::f32)
             : part,
         row);
    file_.release(part);
  }
}

Tensor GgufSource::tensor(const std::string& name) const {
  const GgufTensor& stored = entry(name);
  Tensor whole = file_.tensor(stored);
  if (stored.type->format) {
    const QuantizedMatrix matrix{whole, *stored.type->format, stored.shape[-1]};
    whole = ops::dequantize(matrix, DType::f32).reshape(stored.shape);
  }
  if (const int64_t heads = interleaved_heads(name); heads > 0) whole = split_heads(whole, heads);
  return gguf_layout(architecture_, name) == GgufLayout::transposed && whole.ndim() == 2 ? whole.transpose(0, 1)
                                                                                         : whole;
}

std::optional<QuantizedMatrix> GgufSource::quantized(const std::string& name) const {
  const GgufTensor& stored = entry(name);
  if (!stored.type->format || stored.shape.ndim() != 2) return std::nullopt;
  Tensor blocks = file_.tensor(stored);
  if (const int64_t heads = interleaved_heads(name); heads > 0) blocks = split_heads(blocks, heads);
  return QuantizedMatrix{blocks, *stored.type->format, stored.shape[1]};
}

}  // namespace ondol
