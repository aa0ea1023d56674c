#include "distributed/wire.h"

#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr size_t kLengthBytes = 4;

}  // namespace

std::string_view WireReader::take(size_t count) {
  ONDOL_CHECK(count <= bytes_.size(), "damaged message: ", count, " bytes wanted, ", bytes_.size(), " left");
  const std::string_view taken = bytes_.substr(0, count);
  bytes_.remove_prefix(count);
  return taken;
}

uint64_t WireReader::integer(size_t size) {
  const std::string_view taken = take(size);
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(taken[i])) << (8 * i);
  return value;
}

std::string WireReader::text(size_t max_bytes) {
  const size_t size = u32();
  ONDOL_CHECK(size <= max_bytes, "damaged message: a text of ", size, " bytes, at most ", max_bytes, " are allowed");
  return std::string(take(size));
}

std::string WireReader::raw(size_t count) { return std::string(take(count)); }

void WireReader::finish() const { ONDOL_CHECK(bytes_.empty(), "damaged message: ", bytes_.size(), " bytes too many"); }

std::string framed(std::string_view payload) {
  WireWriter out;
  out.text(payload);
  return out.bytes();
}

std::optional<std::string> FrameReader::next() {
  if (buffer_.size() < kLengthBytes) return std::nullopt;
  const size_t size = WireReader(buffer_).u32();
  ONDOL_CHECK(size <= max_payload_, "damaged message: a frame of ", size, " bytes, at most ", max_payload_,
              " are allowed");
  if (buffer_.size() - kLengthBytes < size) return std::nullopt;
  std::string payload = buffer_.substr(kLengthBytes, size);
  buffer_.erase(0, kLengthBytes + size);
  return payload;
}

}  // namespace ondol
