// GGUF files byte by byte, as the format describes them, for tests of readers.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace ondol::testing {

/// Puts a file together; nothing is checked, so that it may be wrong on purpose.
class GgufBytes {
 public:
  uint32_t version = 3;
  uint64_t extra_values = 0, extra_tensors = 0;  // claimed, but not there
  uint64_t alignment = 32;
  bool padded_end = true;

  template <class T>
  static std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
  }
  static std::string text(const std::string& value) { return raw<uint64_t>(value.size()) + value; }

  /// `type` is the number of the value's type, `bytes` its bytes.
  GgufBytes& value(const std::string& key, uint32_t type, const std::string& bytes) {
    values_ += text(key) + raw(type) + bytes;
    ++value_count_;
    return *this;
  }
  GgufBytes& u32(const std::string& key, uint32_t v) { return value(key, 4, raw(v)); }
  GgufBytes& f32(const std::string& key, float v) { return value(key, 6, raw(v)); }
  GgufBytes& flag(const std::string& key, bool v) { return value(key, 7, raw<uint8_t>(v)); }
  GgufBytes& string(const std::string& key, const std::string& v) { return value(key, 8, text(v)); }
  GgufBytes& strings(const std::string& key, const std::vector<std::string>& list) {
    std::string bytes = raw<uint32_t>(8) + raw<uint64_t>(list.size());
    for (const std::string& v : list) bytes += text(v);
    return value(key, 9, bytes);
  }
  GgufBytes& i32s(const std::string& key, const std::vector<int32_t>& list) {
    std::string bytes = raw<uint32_t>(5) + raw<uint64_t>(list.size());
    for (const int32_t v : list) bytes += raw(v);
    return value(key, 9, bytes);
  }

  /// `sizes` with the fastest dimension first, as files have them.
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& sizes, uint32_t type,
                    const std::string& data) {
    return tensor_at(name, sizes, type, data_.size(), data);
  }
  GgufBytes& tensor_at(const std::string& name, const std::vector<uint64_t>& sizes, uint32_t type, uint64_t offset,
                       const std::string& data) {
    tensors_ += text(name) + raw(static_cast<uint32_t>(sizes.size()));
    for (const uint64_t size : sizes) tensors_ += raw(size);
    tensors_ += raw(type) + raw(offset);
    ++tensor_count_;
    data_ += data;
    unpadded_ = data_.size();
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }

  std::string bytes() const {
    std::string file = "GGUF" + raw(version) + raw(tensor_count_ + extra_tensors) + raw(value_count_ + extra_values) +
                       values_ + tensors_;
    file.resize((file.size() + alignment - 1) / alignment * alignment, '\0');
    return file + (padded_end ? data_ : data_.substr(0, unpadded_));
  }

 private:
  std::string values_, tensors_, data_;
  uint64_t value_count_ = 0, tensor_count_ = 0;
  size_t unpadded_ = 0;
};

}  // namespace ondol::testing
