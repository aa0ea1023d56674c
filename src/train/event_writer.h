// TensorBoard event files.
//
//   EventWriter events("runs/llama-15m", /*first_step=*/1);
//   events.scalar("loss", step, 2.71);
//   events.flush();
//
// A file events.out.tfevents.SECONDS.HOST.PROCESS.NUMBER is a row of TFRecords, each u64 length, u32 masked CRC-32C of
// the length, the bytes, u32 masked CRC-32C of the bytes; the bytes are an Event protocol buffer (tensorflow/core/util/
// event.proto: wall_time = 1 double, step = 2 int64, file_version = 3 string, summary = 5 {value = 1 {tag = 1 string,
// simple_value = 2 float}}, session_log = 7 {status = 1}). A file begins with a session start at
// its first step, which makes TensorBoard drop what earlier files hold from that step on: of a run that was continued,
// or killed before its first checkpoint.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace ondol {

/// CRC-32C (Castagnoli), as in RFC 3720, appendix B.4.
uint32_t crc32c(std::string_view bytes);

class EventWriter {
 public:
  /// Throws Error when the file cannot be created.
  EventWriter(const std::string& directory, int64_t first_step);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  void scalar(std::string_view tag, int64_t step, double value);
  /// Hands everything to the system. Throws Error when it cannot be written.
  void flush();
  const std::string& path() const { return path_; }

 private:
  void record(const std::string& event);

  std::string path_;
  std::FILE* file_ = nullptr;
};

}  // namespace ondol
