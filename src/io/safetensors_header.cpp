#include "io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "base/json_reader.h"

namespace ondol::detail {

namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxTensors = size_t{1} << 19;
constexpr size_t kMaxMetadata = size_t{1} << 16;
constexpr size_t kMaxTextBytes = size_t{16} << 20;

constexpr std::array<std::pair<const char*, DType>, kNumDTypes> kDTypes = {{{"F32", DType::f32},
                                                                            {"BF16", DType::bf16},
                                                                            {"F16", DType::f16},
                                                                            {"F64", DType::f64},
                                                                            {"I64", DType::i64},
                                                                            {"I32", DType::i32},
                                                                            {"I16", DType::i16},
                                                                            {"I8", DType::i8},
                                                                            {"U8", DType::u8},
                                                                            {"BOOL", DType::boolean}}};

// Takes the events of the JSON parser and keeps entries only: no document is built, so that a hostile header cannot
// make memory grow far beyond its own size.
class HeaderBuilder {
 public:
  explicit HeaderBuilder(SafetensorsHeader& header) : header_(header) {}

  bool start_object(size_t) {
    if (place_ == Place::start) return go(Place::top);
    if (place_ == Place::tensor_value) {
      fields_ = 0;
      return go(Place::tensor);
    }
    if (place_ == Place::metadata_value) return go(Place::metadata);
    return unexpected("an object");
  }

  bool key(std::string& name) {
    if (place_ == Place::top) {
      if (name == "__metadata__") {
        if (seen_metadata_) return refuse("\"__metadata__\" is there twice");
        seen_metadata_ = true;
        return go(Place::metadata_value);
      }
      if (header_.entries.size() >= kMaxTensors) return refuse(concat("more than ", kMaxTensors, " tensors"));
      header_.entries.emplace_back().name = std::move(name);
      return go(Place::tensor_value);
    }
    if (place_ == Place::metadata) {
      if (header_.metadata.size() >= kMaxMetadata) return refuse("too many metadata entries");
      header_.metadata.emplace_back(std::move(name), "");
      return go(Place::metadata_text);
    }
    const unsigned field = name == "dtype" ? kDType : name == "shape" ? kShape : name == "data_offsets" ? kOffsets : 0;
    if (field == 0) return refuse_tensor("unknown field " + quoted_name(name));
    if ((fields_ & field) != 0) return refuse_tensor("field \"" + name + "\" is there twice");
    fields_ |= field;
    return go(field == kDType ? Place::dtype : field == kShape ? Place::shape_value : Place::offsets_value);
  }

  bool string(std::string& text) {
    if (place_ == Place::metadata_text) {
      header_.metadata.back().second = std::move(text);
      return go(Place::metadata);
    }
    if (place_ != Place::dtype) return unexpected("a string");
    for (const auto& [name, dtype] : kDTypes) {
      if (text != name) continue;
      header_.entries.back().dtype = dtype;
      return go(Place::tensor);
    }
    return refuse_tensor("unsupported dtype " + quoted_name(text));
  }

  bool start_array(size_t) {
    count_ = 0;
    if (place_ == Place::shape_value) return go(Place::shape);
    if (place_ == Place::offsets_value) return go(Place::offsets);
    return unexpected("an array");
  }

  bool number_unsigned(uint64_t value) {
    if (place_ == Place::shape) {
      if (count_ >= Shape::kMaxDims) return refuse_tensor(concat("more than ", Shape::kMaxDims, " dimensions"));
      if (value > static_cast<uint64_t>(INT64_MAX)) return refuse_tensor(concat("dimension ", value, " is too large"));
      sizes_[count_++] = static_cast<int64_t>(value);
      return true;
    }
    if (place_ != Place::offsets) return unexpected("a number");
    if (count_ >= 2) return refuse_tensor("data_offsets holds more than two numbers");
    offsets_[count_++] = value;
    return true;
  }

  bool end_array() {
    SafetensorsEntry& entry = header_.entries.back();
    if (place_ == Place::shape) {
      shape_ndim_ = count_;
      return go(Place::tensor);
    }
    if (count_ != 2) return refuse_tensor("data_offsets must hold two numbers");
    if (offsets_[0] > offsets_[1]) {
      return refuse_tensor(concat("data_offsets run backwards: ", offsets_[0], " to ", offsets_[1]));
    }
    entry.offset = offsets_[0];
    entry.bytes = offsets_[1] - offsets_[0];
    return go(Place::tensor);
  }

  bool end_object() {
    if (place_ == Place::metadata) return go(Place::top);
    if (place_ == Place::top) return go(Place::end);
    if (fields_ != (kDType | kShape | kOffsets)) return refuse_tensor("dtype, shape or data_offsets is missing");
    SafetensorsEntry& entry = header_.entries.back();
    uint64_t bytes = dtype_size(entry.dtype);
    bool empty = false;
    for (int d = 0; d < shape_ndim_; ++d) empty = empty || sizes_[d] == 0;
    for (int d = 0; d < shape_ndim_ && !empty; ++d) {
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(sizes_[d]), &bytes)) {
        return refuse_tensor("the product of its shape overflows");
      }
    }
    if (empty) bytes = 0;
    if (bytes != entry.bytes) {
      return refuse_tensor(concat("its shape takes ", bytes, " bytes, data_offsets span ", entry.bytes));
    }
    // Sizes of an empty tensor are bounded by Shape itself, whose error would name neither file nor tensor.
    uint64_t product = 1;
    for (int d = 0; d < shape_ndim_; ++d) {
      const uint64_t size = std::max<uint64_t>(static_cast<uint64_t>(sizes_[d]), 1);
      if (__builtin_mul_overflow(product, size, &product) || product > (uint64_t{1} << 60)) {
        return refuse_tensor("the product of its shape overflows");
      }
    }
    entry.shape = Shape(std::span<const int64_t>(sizes_, static_cast<size_t>(shape_ndim_)));
    return go(Place::top);
  }

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("a boolean"); }
  bool number_integer(int64_t value) { return refuse_tensor(concat("negative number ", value)); }
  bool number_float(double, const std::string&) { return unexpected("a fraction"); }
  bool binary(Json::binary_t&) { return unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const Json::exception&) {
    return refuse(concat("the header is not valid JSON at byte ", position));
  }

  const std::string& message() const { return message_; }

 private:
  enum class Place {
    start,
    top,
    metadata_value,
    metadata,
    metadata_text,
    tensor_value,
    tensor,
    dtype,
    shape_value,
    shape,
    offsets_value,
    offsets,
    end
  };
  static constexpr unsigned kDType = 1, kShape = 2, kOffsets = 4;

  bool go(Place place) {
    place_ = place;
    return true;
  }
  bool refuse(std::string why) {
    message_ = std::move(why);
    return false;
  }
  bool refuse_tensor(const std::string& why) {
    if (header_.entries.empty() || place_ <= Place::metadata_text) return refuse(why);
    return refuse(concat("tensor ", quoted_name(header_.entries.back().name), ": ", why));
  }
  bool unexpected(const char* what) { return refuse_tensor(concat(what, " where the format has none")); }

  SafetensorsHeader& header_;
  Place place_ = Place::start;
  bool seen_metadata_ = false;
  unsigned fields_ = 0;
  int count_ = 0;
  int shape_ndim_ = 0;
  int64_t sizes_[Shape::kMaxDims] = {};
  uint64_t offsets_[2] = {};
  std::string message_;
};

// Bytes of the longest stretch between two quotation marks: the parser keeps such a text several times over.
size_t longest_text(std::string_view text) {
  size_t longest = 0, start = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && (text[i] != '"' || (i > 0 && text[i - 1] == '\\'))) continue;
    longest = std::max(longest, i - start);
    start = i + 1;
  }
  return longest;
}

}  // namespace

const char* safetensors_dtype_name(DType dtype) {
  for (const auto& [name, value] : kDTypes) {
    if (value == dtype) return name;
  }
  throw_error("no safetensors name for dtype ", dtype_name(dtype));
}

SafetensorsHeader parse_safetensors_header(std::string_view file, const std::string& path) {
  const auto fail = [&](const auto&... why) { throw_error("cannot read safetensors: ", why..., " (", path, ")"); };
  if (file.size() < 8) fail("the file has ", file.size(), " bytes, too few for a header");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(file[i]);
  if (length > kMaxHeaderBytes) fail("the header claims ", length, " bytes, at most ", kMaxHeaderBytes, " are allowed");
  if (length > file.size() - 8) fail("the header claims ", length, " bytes, the file holds ", file.size() - 8);
  const std::string_view text = file.substr(8, length);
  if (!text.starts_with('{')) fail("the header does not start with \"{\"");

  if (longest_text(text) > kMaxTextBytes) fail("the header holds a text of more than ", kMaxTextBytes, " bytes");

  SafetensorsHeader header;
  HeaderBuilder builder(header);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) fail(builder.message());

  std::vector<SafetensorsEntry>& entries = header.entries;
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  const uint64_t data_start = 8 + length;
  const uint64_t data_bytes = file.size() - data_start;
  uint64_t end = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    SafetensorsEntry& entry = entries[i];
    const std::string name = quoted_name(entry.name);
    if (entry.offset > data_bytes || entry.bytes > data_bytes - entry.offset) {
      fail("tensor ", name, ": ends at byte ", entry.offset, "+", entry.bytes, " of ", data_bytes, " bytes of data");
    }
    if (entry.offset < end) fail("tensor ", name, ": overlaps ", quoted_name(entries[i - 1].name));
    if (entry.offset > end) fail("tensor ", name, ": ", entry.offset - end, " unused bytes lie before it");
    end = entry.offset + entry.bytes;
    entry.offset += data_start;
  }
  if (end != data_bytes) fail(data_bytes - end, " bytes of data belong to no tensor");

  header.by_name.resize(entries.size());
  std::iota(header.by_name.begin(), header.by_name.end(), 0u);
  std::sort(header.by_name.begin(), header.by_name.end(),
            [&](uint32_t a, uint32_t b) { return entries[a].name < entries[b].name; });
  for (size_t i = 1; i < entries.size(); ++i) {
    const std::string& name = entries[header.by_name[i]].name;
    if (name == entries[header.by_name[i - 1]].name) fail("tensor ", quoted_name(name), ": the name is there twice");
  }
  return header;
}

}  // namespace ondol::detail
