#include "io/gguf_header.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/json_reader.h"

namespace ondol::detail {

namespace {

constexpr uint64_t kMaxValues = uint64_t{1} << 16;
constexpr uint64_t kMaxTensors = uint64_t{1} << 19;
constexpr uint64_t kMaxNameBytes = 65535;
constexpr uint32_t kMaxDims = 4;
// The least that an entry takes: an empty name and the smallest rest.
constexpr uint64_t kLeastValueBytes = 8 + 4 + 1;
constexpr uint64_t kLeastTensorBytes = 8 + 4 + 4 + 8;

/// Reads one after the other; whatever does not fit into the file throws.
class HeaderReader {
 public:
  HeaderReader(std::string_view file, const std::string& path) : file_(file), path_(path) {}

  /// What the next errors are about: `tensor "x": `, or nothing.
  void set_subject(std::string subject) { subject_ = std::move(subject); }

  template <class... Why>
  [[noreturn]] void fail(const Why&... why) const {
    throw_error("cannot read GGUF: ", subject_, why..., " (", path_, ")");
  }

  template <class T>
  T number(const char* what) {
    if (left() < sizeof(T)) fail("the file ends inside ", what);
    T value;
    std::memcpy(&value, file_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string_view text(const char* what) {
    const auto length = number<uint64_t>(what);
    if (length > left()) fail(what, " claims ", length, " bytes, the file has ", left(), " left");
    const std::string_view value = file_.substr(position_, length);
    position_ += length;
    return value;
  }

  std::string name(const char* what) {
    const std::string_view value = text(what);
    if (value.empty() || value.size() > kMaxNameBytes) {
      fail(what, " has ", value.size(), " bytes, 1 to ", kMaxNameBytes, " are allowed");
    }
    return std::string(value);
  }

  void skip(uint64_t bytes) { position_ += bytes; }
  uint64_t position() const { return position_; }
  uint64_t left() const { return file_.size() - position_; }

 private:
  std::string_view file_;
  const std::string& path_;
  uint64_t position_ = 0;
  std::string subject_;
};

GgufValueType read_value_type(HeaderReader& in) {
  const auto code = in.number<uint32_t>("a value type");
  if (code > static_cast<uint32_t>(GgufValueType::f64)) in.fail("value type ", code, " is unknown");
  return static_cast<GgufValueType>(code);
}

GgufValue read_value(HeaderReader& in) {
  GgufValue value;
  in.set_subject("");
  value.key = in.name("a key");
  in.set_subject("key " + quoted_name(value.key) + ": ");
  value.type = read_value_type(in);
  if (value.type == GgufValueType::array) {
    value.is_array = true;
    value.type = read_value_type(in);
    if (value.type == GgufValueType::array) in.fail("arrays of arrays are not supported");
    value.count = in.number<uint64_t>("the length of an array");
  }
  value.offset = in.position();
  if (value.type == GgufValueType::text) {
    if (value.count > in.left() / sizeof(uint64_t)) in.fail(value.count, " texts do not fit into the file");
    for (uint64_t i = 0; i < value.count; ++i) in.text("a text");
    return value;
  }
  const uint64_t bytes = gguf_value_bytes(value.type);
  if (value.count > in.left() / bytes) in.fail(value.count, " numbers do not fit into the file");
  in.skip(value.count * bytes);
  return value;
}

GgufTensor read_tensor(HeaderReader& in) {
  GgufTensor tensor;
  in.set_subject("");
  tensor.name = in.name("a tensor name");
  in.set_subject("tensor " + quoted_name(tensor.name) + ": ");
  const auto ndim = in.number<uint32_t>("a shape");
  if (ndim > kMaxDims) in.fail(ndim, " dimensions, at most ", kMaxDims, " are allowed");
  int64_t sizes[kMaxDims];
  uint64_t elements = 1, bound = 1;
  for (uint32_t d = 0; d < ndim; ++d) {
    const auto size = in.number<uint64_t>("a shape");
    // Sizes of an empty tensor are bounded too.
    if (__builtin_mul_overflow(bound, std::max<uint64_t>(size, 1), &bound) || bound > (uint64_t{1} << 60)) {
      in.fail("the product of its shape overflows");
    }
    elements *= size;
    sizes[ndim - 1 - d] = static_cast<int64_t>(size);
  }
  tensor.shape = Shape(std::span<const int64_t>(sizes, ndim));
  const auto code = in.number<uint32_t>("a tensor type");
  tensor.type = find_gguf_type(code);
  if (tensor.type == nullptr) in.fail("tensor type ", code, " is unknown");
  const auto block = static_cast<uint64_t>(tensor.type->block_size);
  const uint64_t row = ndim > 0 ? static_cast<uint64_t>(sizes[ndim - 1]) : 1;
  if (row % block != 0) {
    in.fail("rows of ", row, " elements are no whole blocks of ", tensor.type->name, " (", block, " elements)");
  }
  tensor.bytes = elements / block * static_cast<uint64_t>(tensor.type->block_bytes);
  tensor.offset = in.number<uint64_t>("an offset");
  return tensor;
}

template <class Entry, class Name>
std::vector<uint32_t> sorted_by(const std::vector<Entry>& entries, Name name) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return name(entries[a]) < name(entries[b]); });
  return order;
}

uint64_t read_alignment(const GgufHeader& header, HeaderReader& in, std::string_view file) {
  for (const GgufValue& value : header.values) {
    if (value.key != "general.alignment") continue;
    in.set_subject("key \"general.alignment\": ");
    if (value.type != GgufValueType::u32 || value.is_array) in.fail("a u32 is expected");
    uint32_t alignment;
    std::memcpy(&alignment, file.data() + value.offset, sizeof alignment);
    if (alignment < 8 || alignment > 65536 || (alignment & (alignment - 1)) != 0) {
      in.fail(alignment, " is no power of two from 8 to 65536");
    }
    return alignment;
  }
  return kGgufAlignment;
}

/// Turns offsets into places in the file: each tensor begins at the next multiple of the alignment behind the one
/// before.
void place_tensors(GgufHeader& header, HeaderReader& in, uint64_t file_bytes, uint64_t alignment) {
  const auto align = [&](uint64_t n) { return (n + alignment - 1) / alignment * alignment; };
  const uint64_t start = align(in.position());
  if (!header.tensors.empty() && start > file_bytes) in.fail("the file ends before its tensors");
  const uint64_t data_bytes = file_bytes - std::min(start, file_bytes);
  std::vector<GgufTensor*> order;
  for (GgufTensor& tensor : header.tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) {
    return std::tie(a->offset, a->bytes, a->name) < std::tie(b->offset, b->bytes, b->name);
  });
  uint64_t end = 0;
  for (GgufTensor* tensor : order) {
    in.set_subject("tensor " + quoted_name(tensor->name) + ": ");
    if (tensor->offset % alignment != 0) {
      in.fail("offset ", tensor->offset, " is no multiple of the alignment ", alignment);
    }
    if (tensor->offset > data_bytes || tensor->bytes > data_bytes - tensor->offset) {
      in.fail("ends at byte ", tensor->offset, "+", tensor->bytes, " of ", data_bytes, " bytes of data");
    }
    if (tensor->offset < end) in.fail("overlaps another tensor");
    if (tensor->offset > align(end)) in.fail(tensor->offset - end, " unused bytes lie before it");
    end = tensor->offset + tensor->bytes;
    tensor->offset += start;
  }
  in.set_subject("");
  if (data_bytes > align(end)) in.fail(data_bytes - end, " bytes of data belong to no tensor");
}

}  // namespace

uint64_t gguf_value_bytes(GgufValueType type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kBytes[static_cast<uint32_t>(type)];
}

GgufHeader parse_gguf_header(std::string_view file, const std::string& path) {
  HeaderReader in(file, path);
  if (file.size() < 4 || std::memcmp(file.data(), "GGUF", 4) != 0) in.fail("the file does not begin with \"GGUF\"");
  in.skip(4);
  GgufHeader header;
  header.version = in.number<uint32_t>("the version");
  if ((header.version & 0xffff) == 0 && header.version != 0) in.fail("the file is big-endian, little-endian is read");
  if (header.version != 2 && header.version != 3) in.fail("version ", header.version, ": 2 and 3 are supported");
  const auto tensors = in.number<uint64_t>("the number of tensors");
  const auto values = in.number<uint64_t>("the number of values");
  if (values > kMaxValues || values > in.left() / kLeastValueBytes) in.fail("it claims ", values, " metadata values");
  if (tensors > kMaxTensors || tensors > in.left() / kLeastTensorBytes) in.fail("it claims ", tensors, " tensors");

  for (uint64_t i = 0; i < values; ++i) header.values.push_back(read_value(in));
  in.set_subject("");
  for (uint64_t i = 0; i < tensors; ++i) header.tensors.push_back(read_tensor(in));

  header.values_by_name = sorted_by(header.values, [](const GgufValue& v) -> const std::string& { return v.key; });
  header.tensors_by_name = sorted_by(header.tensors, [](const GgufTensor& t) -> const std::string& { return t.name; });
  in.set_subject("");
  for (size_t i = 1; i < header.values.size(); ++i) {
    const std::string& key = header.values[header.values_by_name[i]].key;
    if (key == header.values[header.values_by_name[i - 1]].key) in.fail("key ", quoted_name(key), " is there twice");
  }
  for (size_t i = 1; i < header.tensors.size(); ++i) {
    const std::string& name = header.tensors[header.tensors_by_name[i]].name;
    if (name == header.tensors[header.tensors_by_name[i - 1]].name) {
      in.fail("tensor ", quoted_name(name), ": the name is there twice");
    }
  }
  const uint64_t alignment = read_alignment(header, in, file);
  in.set_subject("");
  place_tensors(header, in, file.size(), alignment);
  return header;
}

}  // namespace ondol::detail
