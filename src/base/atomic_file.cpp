#include <atomic>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include <ondol/base/error.h>
#include <ondol/base/file.h>

namespace ondol {

namespace {
constexpr size_t kBufferBytes = size_t{1} << 18;

std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  const size_t slash = path.find_last_of('/');
  const size_t name = slash == std::string::npos ? 0 : slash + 1;
  return concat(path.substr(0, name), ".", path.substr(name), ".tmp-", ::getpid(), "-", counter++);
}
}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), temporary_(temporary_name(path_)) {
  fd_ = file_operations().open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_error("cannot create file: ", std::strerror(errno), " (", path_, ")");
  buffer_.reserve(kBufferBytes);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
  if (fd_ >= 0) file_operations().close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) file_operations().unlink(temporary_.c_str());
  temporary_.clear();
}

void AtomicFile::fail(const char* what, int error) {
  discard();
  throw_error("cannot write file: ", what, ": ", std::strerror(error), " (", path_, ")");
}

void AtomicFile::write_out(const char* data, size_t size) {
  while (size > 0) {
    const ssize_t count = file_operations().write(fd_, data, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", errno);
    if (count == 0) fail("write", ENOSPC);  // no progress and no reason given: never loop for ever
    data += count;
    size -= static_cast<size_t>(count);
  }
}

void AtomicFile::flush() {
  write_out(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void AtomicFile::write(const void* data, size_t size) {
  ONDOL_CHECK(fd_ >= 0, "cannot write file: already committed or failed (", path_, ")");
  if (size == 0) return;
  const char* bytes = static_cast<const char*>(data);
  size_ += size;
  if (buffer_.size() + size > kBufferBytes) flush();
  if (size >= kBufferBytes) {
    write_out(bytes, size);
  } else {
    buffer_.insert(buffer_.end(), bytes, bytes + size);
  }
}

void AtomicFile::commit() {
  ONDOL_CHECK(fd_ >= 0, "cannot write file: already committed or failed (", path_, ")");
  flush();
  FileOperations& system = file_operations();
  // After a failed fsync the kernel may have dropped the dirty pages, so a second try would lie: give the file up.
  if (system.fsync(fd_) != 0) fail("fsync", errno);
  const int status = system.close(fd_);
  fd_ = -1;
  if (status != 0) fail("close", errno);
  if (system.rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename", errno);
  temporary_.clear();
  sync_directory(parent_directory(path_));
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace ondol
