// Messages as bytes: frames with a length in front, and the fields inside them.
//
//   WireWriter out;  out.u8(3); out.text("key");  socket_bytes += framed(out.bytes());
//   FrameReader frames(limit);  frames.append(received);  while (auto payload = frames.next()) { WireReader
//   in(*payload); … }
//
// Integers are little-endian, texts have their 32-bit length in front. A length is compared with the limit before
// anything is allocated for it; whatever does not fit throws Error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ondol {

class WireWriter {
 public:
  void u8(uint8_t value) { integer(value, 1); }
  void u32(uint32_t value) { integer(value, 4); }
  void u64(uint64_t value) { integer(value, 8); }
  void text(std::string_view value) {
    u32(static_cast<uint32_t>(value.size()));
    bytes_ += value;
  }
  void raw(std::string_view value) { bytes_ += value; }
  const std::string& bytes() const { return bytes_; }

 private:
  void integer(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i));
  }
  std::string bytes_;
};

/// Reads the fields of one message; `bytes` must outlive it.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}
  uint8_t u8() { return static_cast<uint8_t>(integer(1)); }
  uint32_t u32() { return static_cast<uint32_t>(integer(4)); }
  uint64_t u64() { return integer(8); }
  std::string text(size_t max_bytes);
  std::string raw(size_t count);
  /// Throws when something is left.
  void finish() const;

 private:
  uint64_t integer(size_t size);
  std::string_view take(size_t count);
  std::string_view bytes_;
};

/// The payload with its length in front.
std::string framed(std::string_view payload);

/// Cuts a stream of bytes into frames.
class FrameReader {
 public:
  explicit FrameReader(size_t max_payload) : max_payload_(max_payload) {}
  void set_max_payload(size_t max_payload) { max_payload_ = max_payload; }
  void append(std::string_view bytes) { buffer_ += bytes; }
  /// The next whole payload, if there is one. Throws Error for a length beyond the limit.
  std::optional<std::string> next();

 private:
  size_t max_payload_;
  std::string buffer_;
};

}  // namespace ondol
