// metrics.jsonl: one JSON object a line, in the order of the steps.
//
//   MetricsLog log("runs/llama-15m", /*keep_through_step=*/500);   // what is past step 500 goes away
//   log.append(R"({"step":501,"loss":2.71})");
//
// Every line is handed to the system at once, so that nothing is lost when the process is killed; sync() makes the file
// durable, which a checkpoint does before it counts.
#pragma once

#include <cstdint>
#include <string>

namespace ondol {

class MetricsLog {
 public:
  /// Lines of later steps, and a last line cut short, are removed by writing the rest anew (atomically).
  MetricsLog(const std::string& directory, int64_t keep_through_step);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  void append(const std::string& line);
  void sync();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace ondol
