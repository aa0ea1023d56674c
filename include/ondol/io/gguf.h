// GGUF files: named tensors, many of them quantised, behind typed metadata.
//
//   GgufFile file("model.gguf");
//   const std::string architecture = file.require_text("general.architecture");
//   const GgufTensor& entry = *file.find("token_embd.weight");     // shape (49152, 576), type Q8_0
//   std::vector<float> row(576);
//   file.dequantize_rows(entry, 17, 1, row.data());
//
// Versions 2 and 3, little-endian. The file is mapped and nothing is copied: values and tensors are read where they
// lie. Everything is checked against the file before it is used: counts, lengths, types, names given twice, shapes
// times block sizes, offsets (aligned, in the file, no overlap, no hole). Shapes have the slowest dimension first, as
// everywhere else in this library; files hold them the other way round. Errors: `cannot read GGUF: tensor "x": WHY
// (FILE)`, `cannot read GGUF: key "x": WHY (FILE)`. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <ondol/base/file.h>
#include <ondol/base/quantized_blocks.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

/// How a tensor is stored: plain numbers or quantised blocks. Types that this library cannot read have neither.
struct GgufTensorType {
  uint32_t code = 0;
  const char* name = "";
  int64_t block_size = 1;  // elements
  int64_t block_bytes = 1;
  std::optional<DType> dtype;
  std::optional<QuantFormat> format;

  bool readable() const { return dtype.has_value() || format.has_value(); }
};

/// nullptr for an unknown code.
const GgufTensorType* find_gguf_type(uint32_t code);
const GgufTensorType& gguf_type_of(DType dtype);
const GgufTensorType& gguf_type_of(QuantFormat format);

struct GgufTensor {
  std::string name;
  Shape shape;
  const GgufTensorType* type = nullptr;
  uint64_t offset = 0;  // in the file, bytes
  uint64_t bytes = 0;
};

enum class GgufValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };
const char* gguf_value_type_name(GgufValueType type);

/// One value of the metadata as it lies in the file.
struct GgufValue {
  std::string key;
  GgufValueType type = GgufValueType::u8;  // of the elements when it is an array
  bool is_array = false;
  uint64_t count = 1;
  uint64_t offset = 0;  // in the file: of the number, the length of the text, or the first element
};

/// A value with its bytes in the file, for copies.
struct GgufRawValue {
  GgufValueType type = GgufValueType::u8;
  bool is_array = false;
  uint64_t count = 1;
  std::string bytes;  // without types and count
};

/// A cheap handle; copies share the mapping, and so do the tensors made from it.
class GgufFile {
 public:
  explicit GgufFile(const std::string& path);

  uint32_t version() const { return content_->version; }
  const std::string& path() const { return content_->file.path(); }
  /// In file order.
  const std::vector<GgufValue>& values() const { return content_->values; }
  const std::vector<GgufTensor>& tensors() const { return content_->tensors; }
  /// nullptr when there is none of that name.
  const GgufTensor* find(const std::string& name) const;
  const GgufValue* find_value(const std::string& key) const;

  // Values of the metadata. Nothing when the key is absent; another type, or a number out of range, throws naming the
  // key. Integers of every width serve as each other, and as numbers.
  std::optional<bool> flag(const std::string& key) const;
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;
  std::optional<std::string> text(const std::string& key) const;
  std::optional<std::vector<int64_t>> integers(const std::string& key) const;
  std::optional<std::vector<double>> numbers(const std::string& key) const;
  std::optional<std::vector<std::string>> texts(const std::string& key) const;
  int64_t require_integer(const std::string& key) const;
  std::string require_text(const std::string& key) const;
  GgufRawValue raw(const GgufValue& value) const;
  [[noreturn]] void fail(const std::string& key, const std::string& why) const;

  /// A CPU tensor on the mapped bytes, not to be written to: the numbers, or (rows, bytes of a row) u8 for quantised
  /// blocks. Throws for types that cannot be read.
  Tensor tensor(const GgufTensor& entry) const;
  /// Rows (the last dimension) of any readable floating-point or quantised tensor as f32.
  void dequantize_rows(const GgufTensor& entry, int64_t first, int64_t count, float* out) const;
  /// Gives the memory of a contiguous tensor on the mapped bytes back to the system, until it is read again.
  void release(const Tensor& part) const;

 private:
  struct Content {
    explicit Content(const std::string& path);
    MappedFile file;
    uint32_t version = 0;
    std::vector<GgufValue> values;
    std::vector<GgufTensor> tensors;
    std::vector<uint32_t> values_by_name, tensors_by_name;
  };
  const GgufValue* find_value(const std::string& key, bool is_array) const;
  std::string_view text_at(uint64_t& offset) const;
  int64_t integer_at(const GgufValue& value, uint64_t index) const;
  double number_at(const GgufValue& value, uint64_t index) const;

  std::shared_ptr<const Content> content_;
};

/// A regular file that begins as GGUF files do.
bool is_gguf_file(const std::string& path);

/// Values to write; the kind decides the type in the file.
using GgufScalar = std::variant<bool, uint32_t, int32_t, uint64_t, float, std::string, std::vector<std::string>,
                                std::vector<float>, std::vector<int32_t>, GgufRawValue>;
using GgufMetadata = std::vector<std::pair<std::string, GgufScalar>>;

/// A tensor to write. `data` is called once, when its turn has come: contiguous, on the host, of the type's dtype, or
/// the blocks as u8.
struct GgufTensorOutput {
  std::string name;
  Shape shape;
  const GgufTensorType* type = nullptr;
  std::function<Tensor()> data;
};

/// Writes version 3, atomically, one tensor at a time. Throws on repeated names and rows that are no whole blocks.
void write_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufTensorOutput>& tensors);

}  // namespace ondol
