// A file without a name: whatever happens to the process, nothing of it stays behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ondol::clean {

class TemporaryFile {
 public:
  /// Throws Error when no file can be made in the directory.
  explicit TemporaryFile(std::string directory);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  /// Appends; buffered. Once anything was read, nothing more may be appended.
  void append(const void* data, size_t size);
  void write_at(uint64_t offset, const void* data, size_t size);
  /// Throws Error when the file ends before.
  void read_at(uint64_t offset, void* data, size_t size);
  uint64_t size() const { return size_; }

 private:
  void flush();

  std::string directory_;
  int fd_ = -1;
  uint64_t size_ = 0;     // with what is buffered
  uint64_t flushed_ = 0;  // without
  std::vector<char> buffer_;
};

}  // namespace ondol::clean
