// A reader of the protocol buffer wire format (varints, fixed-size numbers, length-delimited fields) that checks every
// length before it uses it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <ondol/base/error.h>

namespace ondol::tokenization {

class ProtobufReader {
 public:
  /// `where` is named in errors, which are UsageErrors.
  ProtobufReader(std::string_view bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}

  /// Goes to the next field; false at the end of the message. The value must be read or skipped before the next call.
  bool next() {
    if (bytes_.empty()) return false;
    const uint64_t tag = varint();
    wire_type_ = static_cast<int>(tag & 7u);
    field_ = tag >> 3;
    if (field_ == 0 || field_ > 0x1fffffff) fail("a field number out of range");
    return true;
  }
  uint64_t field() const { return field_; }

  std::string_view bytes() {
    expect(2);
    const uint64_t length = varint();
    if (length > bytes_.size()) fail("a field that reaches over the end");
    const std::string_view value = bytes_.substr(0, length);
    bytes_.remove_prefix(length);
    return value;
  }
  int64_t integer() {
    expect(0);
    return static_cast<int64_t>(varint());
  }
  bool boolean() { return integer() != 0; }
  float number() {
    expect(5);
    float value;
    std::memcpy(&value, take(4).data(), 4);
    return value;
  }
  void skip() {
    switch (wire_type_) {
      case 0:
        varint();
        return;
      case 1:
        take(8);
        return;
      case 2:
        bytes();
        return;
      case 5:
        take(4);
        return;
      default:
        fail("a field of an unknown kind");
    }
  }

 private:
  [[noreturn]] void fail(const char* what) const { throw UsageError(concat("damaged: ", what, " (", where_, ")")); }

  void expect(int wire_type) const {
    if (wire_type_ != wire_type) fail("a field of another kind than expected");
  }
  std::string_view take(size_t count) {
    if (count > bytes_.size()) fail("the end inside a field");
    const std::string_view value = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7fu) << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of more than ten bytes");
  }

  std::string_view bytes_;
  std::string where_;
  uint64_t field_ = 0;
  int wire_type_ = 0;
};

}  // namespace ondol::tokenization
