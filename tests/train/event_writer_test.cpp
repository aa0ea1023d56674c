#include "train/event_writer.h"

#include <bit>
#include <cstring>

#include <gtest/gtest.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

/// A reader of its own: what a TensorBoard would find in the file.
struct ParsedEvent {
  double wall_time = 0;
  int64_t step = 0;
  std::string file_version;
  std::string tag;
  float value = 0;
  int session_status = 0;
};

uint64_t fixed(const std::string& bytes, size_t at, int size) {
  uint64_t value = 0;
  for (int i = 0; i < size; ++i)
    value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes.at(at + i))) << (8 * i);
  return value;
}

uint64_t varint(const std::string& bytes, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<unsigned char>(bytes.at(at++));
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
}

/// Calls field(number, wire type, integer or fixed value, bytes) for every field.
template <class Field>
void parse_message(const std::string& bytes, const Field& field) {
  for (size_t at = 0; at < bytes.size();) {
    const uint64_t key = varint(bytes, at);
    uint64_t number = 0;
    std::string content;
    switch (key & 7) {
      case 0:
        number = varint(bytes, at);
        break;
      case 1:
        number = fixed(bytes, at, 8);
        at += 8;
        break;
      case 5:
        number = fixed(bytes, at, 4);
        at += 4;
        break;
      case 2: {
        const uint64_t size = varint(bytes, at);
        content = bytes.substr(at, size);
        ASSERT_EQ(content.size(), size);
        at += size;
        break;
      }
      default:
        FAIL() << "wire type " << (key & 7);
    }
    field(static_cast<int>(key >> 3), static_cast<int>(key & 7), number, content);
  }
}

uint32_t masked(const std::string& bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::vector<ParsedEvent> parse_events(const std::string& file) {
  std::vector<ParsedEvent> events;
  for (size_t at = 0; at < file.size();) {
    const uint64_t size = fixed(file, at, 8);
    EXPECT_EQ(fixed(file, at + 8, 4), masked(file.substr(at, 8)));
    const std::string record = file.substr(at + 12, size);
    EXPECT_EQ(fixed(file, at + 12 + size, 4), masked(record));
    at += 16 + size;
    ParsedEvent event;
    parse_message(record, [&](int number, int wire, uint64_t value, const std::string& bytes) {
      if (number == 1 && wire == 1) event.wall_time = std::bit_cast<double>(value);
      if (number == 2 && wire == 0) event.step = static_cast<int64_t>(value);
      if (number == 3 && wire == 2) event.file_version = bytes;
      if (number == 7 && wire == 2) {
        parse_message(bytes, [&](int n, int, uint64_t v, const std::string&) {
          if (n == 1) event.session_status = static_cast<int>(v);
        });
      }
      if (number != 5) return;
      parse_message(bytes, [&](int n, int w, uint64_t, const std::string& entry) {
        ASSERT_EQ(n, 1);
        ASSERT_EQ(w, 2);
        parse_message(entry, [&](int k, int kind, uint64_t v, const std::string& text) {
          if (k == 1) event.tag = text;
          if (k == 2 && kind == 5) event.value = std::bit_cast<float>(static_cast<uint32_t>(v));
        });
      });
    });
    events.push_back(event);
  }
  return events;
}

TEST(EventWriter, Crc32cKnownAnswers) {  // RFC 3720, appendix B.4
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string rising;
  for (int i = 0; i < 32; ++i) rising += static_cast<char>(i);
  EXPECT_EQ(crc32c(rising), 0x46DD794Eu);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
}

TEST(EventWriter, ScalarsParseBack) {
  const testing::TemporaryDirectory directory;
  std::string path;
  {
    EventWriter writer(directory.path(), 1);
    path = writer.path();
    writer.scalar("loss", 1, 2.5);
    writer.scalar("learning_rate", 300, 3e-4);
    writer.flush();
  }
  const std::string name = path.substr(directory.path().size() + 1);
  EXPECT_TRUE(name.starts_with("events.out.tfevents.")) << name;
  const std::vector<ParsedEvent> events = parse_events(directory.read(name));
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.6e9);
  // Also of a first step: an earlier process may have died before its first checkpoint.
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 1);
  EXPECT_EQ(events[2].tag, "loss");
  EXPECT_EQ(events[2].step, 1);
  EXPECT_EQ(events[2].value, 2.5f);
  EXPECT_EQ(events[3].tag, "learning_rate");
  EXPECT_EQ(events[3].step, 300);
  EXPECT_EQ(events[3].value, 3e-4f);
}

TEST(EventWriter, ContinuedRunStartsASession) {
  const testing::TemporaryDirectory directory;
  EventWriter writer(directory.path(), 41);
  const std::vector<ParsedEvent> events =
      parse_events(directory.read(writer.path().substr(directory.path().size() + 1)));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 41);
}

TEST(EventWriter, UnwritableDirectoryIsNamed) {
  EXPECT_THROW(EventWriter("/nonexistent/directory", 1), std::exception);
}

}  // namespace
}  // namespace ondol
