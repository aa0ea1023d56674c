#include <ondol/io/gguf.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/json_reader.h"
#include "io/gguf_header.h"

namespace ondol {

namespace {

/// The last dimension, in which blocks lie.
int64_t row_length(const GgufTensor& entry) { return entry.shape.ndim() > 0 ? entry.shape[-1] : 1; }

bool is_integer(GgufValueType type) {
  return type != GgufValueType::f32 && type != GgufValueType::f64 && type != GgufValueType::boolean &&
         type != GgufValueType::text && type != GgufValueType::array;
}

template <class T>
T read_at(const std::byte* place) {
  T value;
  std::memcpy(&value, place, sizeof value);
  return value;
}

}  // namespace

bool is_gguf_file(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string_view(magic, sizeof magic) == "GGUF";
}

GgufFile::Content::Content(const std::string& path) : file(path) {
  detail::GgufHeader header =
      detail::parse_gguf_header({reinterpret_cast<const char*>(file.data()), file.size()}, path);
  version = header.version;
  values = std::move(header.values);
  tensors = std::move(header.tensors);
  values_by_name = std::move(header.values_by_name);
  tensors_by_name = std::move(header.tensors_by_name);
}

GgufFile::GgufFile(const std::string& path) : content_(std::make_shared<const Content>(path)) {}

void GgufFile::fail(const std::string& key, const std::string& why) const {
  throw_error("cannot read GGUF: key ", quoted_name(key), ": ", why, " (", path(), ")");
}

const GgufTensor* GgufFile::find(const std::string& name) const {
  const auto& order = content_->tensors_by_name;
  const auto found = std::lower_bound(order.begin(), order.end(), name, [&](uint32_t index, const std::string& wanted) {
    return content_->tensors[index].name < wanted;
  });
  return found != order.end() && content_->tensors[*found].name == name ? &content_->tensors[*found] : nullptr;
}

const GgufValue* GgufFile::find_value(const std::string& key) const {
  const auto& order = content_->values_by_name;
  const auto found = std::lower_bound(order.begin(), order.end(), key, [&](uint32_t index, const std::string& wanted) {
    return content_->values[index].key < wanted;
  });
  return found != order.end() && content_->values[*found].key == key ? &content_->values[*found] : nullptr;
}

const GgufValue* GgufFile::find_value(const std::string& key, bool is_array) const {
  const GgufValue* value = find_value(key);
  if (value != nullptr && value->is_array != is_array) {
    fail(key, is_array ? "an array is expected" : "one value is expected, not an array");
  }
  return value;
}

std::string_view GgufFile::text_at(uint64_t& offset) const {
  const std::byte* place = content_->file.data() + offset;
  const auto length = read_at<uint64_t>(place);
  offset += sizeof length + length;
  return {reinterpret_cast<const char*>(place + sizeof length), length};
}

int64_t GgufFile::integer_at(const GgufValue& value, uint64_t index) const {
  if (!is_integer(value.type)) {
    fail(value.key, concat("an integer is expected, not ", gguf_value_type_name(value.type)));
  }
  const std::byte* place = content_->file.data() + value.offset + index * detail::gguf_value_bytes(value.type);
  switch (value.type) {
    case GgufValueType::u8:
      return read_at<uint8_t>(place);
    case GgufValueType::i8:
      return read_at<int8_t>(place);
    case GgufValueType::u16:
      return read_at<uint16_t>(place);
    case GgufValueType::i16:
      return read_at<int16_t>(place);
    case GgufValueType::u32:
      return read_at<uint32_t>(place);
    case GgufValueType::i32:
      return read_at<int32_t>(place);
    case GgufValueType::i64:
      return read_at<int64_t>(place);
    default:
      break;
  }
  const auto large = read_at<uint64_t>(place);
  if (large > static_cast<uint64_t>(INT64_MAX)) fail(value.key, concat(large, " is out of range"));
  return static_cast<int64_t>(large);
}

double GgufFile::number_at(const GgufValue& value, uint64_t index) const {
  const std::byte* place = content_->file.data() + value.offset + index * detail::gguf_value_bytes(value.type);
  double number;
  if (value.type == GgufValueType::f32) {
    number = read_at<float>(place);
  } else if (value.type == GgufValueType::f64) {
    number = read_at<double>(place);
  } else if (is_integer(value.type)) {
    return static_cast<double>(integer_at(value, index));
  } else {
    fail(value.key, concat("a number is expected, not ", gguf_value_type_name(value.type)));
  }
  if (!std::isfinite(number)) fail(value.key, "the number is not finite");
  return number;
}

std::optional<bool> GgufFile::flag(const std::string& key) const {
  const GgufValue* value = find_value(key, false);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufValueType::boolean) {
    fail(key, concat("a bool is expected, not ", gguf_value_type_name(value->type)));
  }
  return read_at<uint8_t>(content_->file.data() + value->offset) != 0;
}

std::optional<int64_t> GgufFile::integer(const std::string& key) const {
  const GgufValue* value = find_value(key, false);
  return value == nullptr ? std::nullopt : std::optional(integer_at(*value, 0));
}

std::optional<double> GgufFile::number(const std::string& key) const {
  const GgufValue* value = find_value(key, false);
  return value == nullptr ? std::nullopt : std::optional(number_at(*value, 0));
}

std::optional<std::string> GgufFile::text(const std::string& key) const {
  const GgufValue* value = find_value(key, false);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufValueType::text) {
    fail(key, concat("a text is expected, not ", gguf_value_type_name(value->type)));
  }
  uint64_t offset = value->offset;
  return std::string(text_at(offset));
}

std::optional<std::vector<int64_t>> GgufFile::integers(const std::string& key) const {
  const GgufValue* value = find_value(key, true);
  if (value == nullptr) return std::nullopt;
  std::vector<int64_t> all;
  all.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) all.push_back(integer_at(*value, i));
  return all;
}

std::optional<std::vector<double>> GgufFile::numbers(const std::string& key) const {
  const GgufValue* value = find_value(key, true);
  if (value == nullptr) return std::nullopt;
  std::vector<double> all;
  all.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) all.push_back(number_at(*value, i));
  return all;
}

std::optional<std::vector<std::string>> GgufFile::texts(const std::string& key) const {
  const GgufValue* value = find_value(key, true);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufValueType::text) {
    fail(key, concat("texts are expected, not ", gguf_value_type_name(value->type)));
  }
  std::vector<std::string> all;
  all.reserve(value->count);
  uint64_t offset = value->offset;
  for (uint64_t i = 0; i < value->count; ++i) all.emplace_back(text_at(offset));
  return all;
}

GgufRawValue GgufFile::raw(const GgufValue& value) const {
  uint64_t end = value.offset + value.count * detail::gguf_value_bytes(value.type);
  if (value.type == GgufValueType::text) {
    for (uint64_t i = 0; i < value.count; ++i) text_at(end);
  }
  const char* begin = reinterpret_cast<const char*>(content_->file.data()) + value.offset;
  return {value.type, value.is_array, value.count, std::string(begin, end - value.offset)};
}

int64_t GgufFile::require_integer(const std::string& key) const {
  const std::optional<int64_t> value = integer(key);
  if (!value) fail(key, "it is missing");
  return *value;
}

std::string GgufFile::require_text(const std::string& key) const {
  std::optional<std::string> value = text(key);
  if (!value) fail(key, "it is missing");
  return *std::move(value);
}

Tensor GgufFile::tensor(const GgufTensor& entry) const {
  ONDOL_CHECK(entry.type->readable(), "cannot read GGUF: tensor ", quoted_name(entry.name), ": type ", entry.type->name,
              " is not supported, only F32, F16, BF16, F64, integers, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and "
              "Q6_K are (",
              path(), ")");
  auto* data = const_cast<std::byte*>(content_->file.data() + entry.offset);
  if (entry.type->dtype) {
    return Tensor::borrow(data, entry.shape, *entry.type->dtype, [content = content_] {});
  }
  const int64_t row_bytes = quantized_row_bytes(*entry.type->format, row_length(entry));
  const int64_t rows = row_bytes == 0 ? 0 : static_cast<int64_t>(entry.bytes) / row_bytes;
  return Tensor::borrow(data, {rows, row_bytes}, DType::u8, [content = content_] {});
}

void GgufFile::release(const Tensor& part) const {
  content_->file.release(part.raw(), static_cast<size_t>(part.numel()) * dtype_size(part.dtype()));
}

void GgufFile::dequantize_rows(const GgufTensor& entry, int64_t first, int64_t count, float* out) const {
  const Tensor whole = tensor(entry);
  const int64_t length = row_length(entry);
  if (entry.type->format) {
    const auto* blocks = whole.data<uint8_t>();
    for (int64_t i = 0; i < count; ++i) {
      dequantize_row(*entry.type->format, blocks + (first + i) * whole.size(1), length, out + i * length);
    }
    return;
  }
  const Tensor rows = whole.reshape({-1, length}).narrow(0, first, count);
  const std::vector<float> values = rows.to_vector<float>();
  std::copy(values.begin(), values.end(), out);
}

}  // namespace ondol
