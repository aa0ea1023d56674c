#include <cstring>
#include <unordered_set>

#include "base/json_reader.h"
#include "io/gguf_header.h"

namespace ondol {

namespace {

class HeaderWriter {
 public:
  template <class T>
  void number(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof value);
    bytes_.append(bytes, sizeof bytes);
  }
  void text(const std::string& value) {
    number<uint64_t>(value.size());
    bytes_ += value;
  }
  void type(GgufValueType type) { number(static_cast<uint32_t>(type)); }

  void value(bool v) { type(GgufValueType::boolean), number<uint8_t>(v); }
  void value(uint32_t v) { type(GgufValueType::u32), number(v); }
  void value(int32_t v) { type(GgufValueType::i32), number(v); }
  void value(uint64_t v) { type(GgufValueType::u64), number(v); }
  void value(float v) { type(GgufValueType::f32), number(v); }
  void value(const std::string& v) { type(GgufValueType::text), text(v); }
  void value(const std::vector<std::string>& list) {
    array(GgufValueType::text, list.size());
    for (const std::string& v : list) text(v);
  }
  void value(const std::vector<float>& list) {
    array(GgufValueType::f32, list.size());
    for (const float v : list) number(v);
  }
  void value(const std::vector<int32_t>& list) {
    array(GgufValueType::i32, list.size());
    for (const int32_t v : list) number(v);
  }

  void value(const GgufRawValue& v) {
    if (v.is_array) {
      array(v.type, v.count);
    } else {
      type(v.type);
    }
    bytes_ += v.bytes;
  }

  std::string& bytes() { return bytes_; }

 private:
  void array(GgufValueType element, uint64_t count) { type(GgufValueType::array), type(element), number(count); }
  std::string bytes_;
};

uint64_t tensor_bytes(const GgufTensorOutput& tensor, const std::string& path) {
  const int64_t row = tensor.shape.ndim() > 0 ? tensor.shape[-1] : 1;
  ONDOL_CHECK(row % tensor.type->block_size == 0, "cannot write GGUF: tensor ", quoted_name(tensor.name), ": rows of ",
              row, " elements are no whole blocks of ", tensor.type->name, " (", path, ")");
  return static_cast<uint64_t>(tensor.shape.numel() / tensor.type->block_size * tensor.type->block_bytes);
}

uint64_t aligned(uint64_t bytes) {
  return (bytes + detail::kGgufAlignment - 1) / detail::kGgufAlignment * detail::kGgufAlignment;
}

}  // namespace

void write_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufTensorOutput>& tensors) {
  HeaderWriter header;
  header.number(detail::kGgufMagic);
  header.number<uint32_t>(3);
  header.number<uint64_t>(tensors.size());
  header.number<uint64_t>(metadata.size());
  std::unordered_set<std::string> names;
  for (const auto& [key, scalar] : metadata) {
    ONDOL_CHECK(names.insert(key).second, "cannot write GGUF: key ", quoted_name(key), " is there twice (", path, ")");
    header.text(key);
    std::visit([&](const auto& value) { header.value(value); }, scalar);
  }
  names.clear();
  uint64_t offset = 0;
  for (const GgufTensorOutput& tensor : tensors) {
    ONDOL_CHECK(names.insert(tensor.name).second, "cannot write GGUF: tensor ", quoted_name(tensor.name),
                " is there twice (", path, ")");
    header.text(tensor.name);
    header.number(static_cast<uint32_t>(tensor.shape.ndim()));
    for (int d = tensor.shape.ndim() - 1; d >= 0; --d) header.number(static_cast<uint64_t>(tensor.shape[d]));
    header.number(tensor.type->code);
    header.number(offset);
    offset += aligned(tensor_bytes(tensor, path));
  }
  header.bytes().resize(aligned(header.bytes().size()), '\0');

  AtomicFile file(path);
  file.write(header.bytes());
  const std::string padding(detail::kGgufAlignment, '\0');
  for (const GgufTensorOutput& tensor : tensors) {
    const uint64_t bytes = tensor_bytes(tensor, path);
    const Tensor data = tensor.data();
    ONDOL_CHECK(data.is_contiguous() && static_cast<uint64_t>(data.numel()) * dtype_size(data.dtype()) == bytes,
                "cannot write GGUF: tensor ", quoted_name(tensor.name), " ", tensor.shape, " of type ",
                tensor.type->name, " takes ", bytes, " bytes, not ", data.shape(), " of ", dtype_name(data.dtype()),
                " (", path, ")");
    file.write(data.raw(), bytes);
    file.write(std::string_view(padding).substr(0, aligned(bytes) - bytes));
  }
  file.commit();
}

}  // namespace ondol
