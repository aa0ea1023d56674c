#include "train/metrics_log.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <unistd.h>

#include <ondol/base/file.h>
#include <ondol/base/text_reader.h>

#include "base/json_reader.h"

namespace ondol {

namespace {

/// The lines to keep: those before the first one that is damaged or belongs to a later step.
void truncate_after(const std::string& path, int64_t last_step) {
  AtomicFile kept(path);
  TextReader reader(path);
  for (std::string line; reader.read_line(line);) {
    const Json entry = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object() || !entry.contains("step") || !entry["step"].is_number_integer()) break;
    if (entry["step"].get<int64_t>() > last_step) break;
    kept.write(line + "\n");
  }
  kept.commit();
}

}  // namespace

MetricsLog::MetricsLog(const std::string& directory, int64_t keep_through_step) : path_(directory + "/metrics.jsonl") {
  if (keep_through_step > 0 && std::filesystem::exists(path_)) {
    truncate_after(path_, keep_through_step);
  } else {
    write_file_atomic(path_, "");
  }
  fd_ = file_operations().open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_error("cannot open file: ", std::strerror(errno), " (", path_, ")");
}

MetricsLog::~MetricsLog() { file_operations().close(fd_); }

void MetricsLog::append(const std::string& line) {
  const std::string bytes = line + "\n";
  for (size_t written = 0; written < bytes.size();) {
    const ssize_t count = file_operations().write(fd_, bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw_error("cannot write file: ", std::strerror(count < 0 ? errno : ENOSPC), " (", path_, ")");
    written += static_cast<size_t>(count);
  }
}

void MetricsLog::sync() {
  if (file_operations().fsync(fd_) != 0) {
    throw_error("cannot make file durable: fsync: ", std::strerror(errno), " (", path_, ")");
  }
}

}  // namespace ondol
