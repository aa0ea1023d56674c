#include "backend/tuning_cache.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

namespace ondol {

namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;

std::string line_of(const std::string& key, const std::string& value) {
  const std::string text = key + "\t" + value;
  return concat(text, "\t", crc32(0, text.data(), text.size()), "\n");
}

/// Held while the file is read, extended and replaced, so that no process loses the lines of another.
class FileLock {
 public:
  explicit FileLock(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    ONDOL_CHECK(fd_ >= 0 && ::flock(fd_, LOCK_EX) == 0, "cannot lock file (", path, ")");
  }
  ~FileLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_;
};

std::string absolute_variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && value[0] == '/' ? value : "";
}

}  // namespace

TuningCache::TuningCache(std::string path) : path_(std::move(path)), writable_(!path_.empty()) {
  if (writable_) read();
}

void TuningCache::read() {
  std::string content;
  try {
    if (std::error_code ignored; std::filesystem::exists(path_, ignored)) content = read_file(path_, kMaxFileBytes);
  } catch (const Error&) {
    return;  // as if there were none
  }
  std::istringstream lines(content);
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find('\t'), second = line.find('\t', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string key = line.substr(0, first), value = line.substr(first + 1, second - first - 1);
    if (line + "\n" == line_of(key, value)) entries_.try_emplace(key, value);
  }
}

std::optional<std::string> TuningCache::find(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

bool TuningCache::writable() const {
  const std::lock_guard lock(mutex_);
  return writable_;
}

std::optional<std::string> TuningCache::store(const std::string& key, const std::string& value,
                                              const std::string& rejected) {
  const std::lock_guard lock(mutex_);
  if (!writable_) return std::nullopt;
  try {
    make_directories(parent_directory(path_));
    const FileLock exclusive(path_ + ".lock");
    read();  // what others have added
    const auto [entry, added] = entries_.try_emplace(key, value);
    if (!added && entry->second != rejected) return entry->second;
    entry->second = value;
    std::string content;
    for (const auto& [k, v] : entries_) content += line_of(k, v);
    write_file_atomic(path_, content);
    return value;
  } catch (const Error&) {
    writable_ = false;
    entries_.erase(key);
    return std::nullopt;
  }
}

std::string cache_directory() {
  if (const std::string cache = absolute_variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/ondol";
  const std::string home = absolute_variable("HOME");
  return home.empty() ? "" : home + "/.cache/ondol";
}

}  // namespace ondol
