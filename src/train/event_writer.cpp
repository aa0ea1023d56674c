#include "train/event_writer.h"

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <unistd.h>

#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr std::array<uint32_t, 256> make_crc32c_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = value;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrc32cTable = make_crc32c_table();

/// TFRecord stores checksums rotated and shifted, since a checksum of data that holds its own checksum is weak.
uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

void put_fixed(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

// Wire types of protocol buffers.
constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

void put_key(std::string& out, int field, int wire) { put_varint(out, static_cast<uint64_t>(field << 3 | wire)); }

void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_key(out, field, kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

std::string event_at(int64_t step) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::string event;
  put_key(event, 1, kFixed64);
  put_fixed(event, std::bit_cast<uint64_t>(now), 8);
  put_key(event, 2, kVarint);
  put_varint(event, static_cast<uint64_t>(step));
  return event;
}

std::string unused_path(const std::string& directory) {
  static std::atomic<unsigned> counter{0};
  char host[256] = "localhost";
  ::gethostname(host, sizeof host - 1);
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  return concat(directory, "/events.out.tfevents.", seconds, ".", host, ".", ::getpid(), ".", counter++);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = (crc >> 8) ^ kCrc32cTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return ~crc;
}

EventWriter::EventWriter(const std::string& directory, int64_t first_step) : path_(unused_path(directory)) {
  file_ = std::fopen(path_.c_str(), "wbxe");
  if (file_ == nullptr) throw_error("cannot create file: ", std::strerror(errno), " (", path_, ")");
  std::string version = event_at(0);
  put_bytes(version, 3, "brain.Event:2");
  record(version);
  std::string session;
  put_key(session, 1, kVarint);
  put_varint(session, 1);  // START
  std::string start = event_at(first_step);
  put_bytes(start, 7, session);
  record(start);
  flush();
}

EventWriter::~EventWriter() { std::fclose(file_); }

void EventWriter::record(const std::string& event) {
  std::string frame;
  put_fixed(frame, event.size(), 8);
  put_fixed(frame, masked_crc32c(frame), 4);
  frame += event;
  put_fixed(frame, masked_crc32c(event), 4);
  if (std::fwrite(frame.data(), 1, frame.size(), file_) != frame.size()) {
    throw_error("cannot write file: ", std::strerror(errno), " (", path_, ")");
  }
}

void EventWriter::scalar(std::string_view tag, int64_t step, double value) {
  std::string entry;
  put_bytes(entry, 1, tag);
  put_key(entry, 2, kFixed32);
  put_fixed(entry, std::bit_cast<uint32_t>(static_cast<float>(value)), 4);
  std::string summary;
  put_bytes(summary, 1, entry);
  std::string event = event_at(step);
  put_bytes(event, 5, summary);
  record(event);
}

void EventWriter::flush() {
  if (std::fflush(file_) != 0) throw_error("cannot write file: ", std::strerror(errno), " (", path_, ")");
}

}  // namespace ondol
