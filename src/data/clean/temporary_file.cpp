#include "data/clean/temporary_file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

namespace ondol::clean {

namespace {
constexpr size_t kBufferBytes = size_t{1} << 18;

void write_all(int fd, uint64_t offset, const char* data, size_t size, const std::string& directory) {
  while (size > 0) {
    const ssize_t count = ::pwrite(fd, data, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    const int error = count == 0 ? ENOSPC : errno;
    if (count <= 0) throw_error("cannot write temporary file: ", std::strerror(error), " (", directory, ")");
    data += count;
    offset += static_cast<uint64_t>(count);
    size -= static_cast<size_t>(count);
  }
}
}  // namespace

TemporaryFile::TemporaryFile(std::string directory) : directory_(std::move(directory)) {
  static std::atomic<unsigned> counter{0};
  const std::string name = concat(directory_, "/.ondol-tmp-", ::getpid(), "-", counter++);
  fd_ = file_operations().open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd_ < 0) throw_error("cannot create temporary file: ", std::strerror(errno), " (", directory_, ")");
  file_operations().unlink(name.c_str());
}

TemporaryFile::~TemporaryFile() { file_operations().close(fd_); }

void TemporaryFile::flush() {
  write_all(fd_, flushed_, buffer_.data(), buffer_.size(), directory_);
  flushed_ += buffer_.size();
  buffer_.clear();
}

void TemporaryFile::append(const void* data, size_t size) {
  if (buffer_.size() + size > kBufferBytes) flush();
  const char* bytes = static_cast<const char*>(data);
  size_ += size;
  if (size >= kBufferBytes) {
    write_all(fd_, flushed_, bytes, size, directory_);
    flushed_ += size;
    return;
  }
  buffer_.reserve(kBufferBytes);
  buffer_.insert(buffer_.end(), bytes, bytes + size);
}

void TemporaryFile::write_at(uint64_t offset, const void* data, size_t size) {
  write_all(fd_, offset, static_cast<const char*>(data), size, directory_);
  size_ = flushed_ = std::max(size_, offset + size);
}

void TemporaryFile::read_at(uint64_t offset, void* data, size_t size) {
  if (!buffer_.empty()) flush();
  char* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t count = ::pread(fd_, bytes, size, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_error("cannot read temporary file: ", std::strerror(errno), " (", directory_, ")");
    ONDOL_CHECK(count > 0, "cannot read temporary file: it ends too early (", directory_, ")");
    bytes += count;
    offset += static_cast<uint64_t>(count);
    size -= static_cast<size_t>(count);
  }
}

}  // namespace ondol::clean
