#include <ondol/base/file.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

namespace ondol {

namespace {

int open_system(const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); }

// A file descriptor for reading, closed on every way out.
class ReadDescriptor {
 public:
  explicit ReadDescriptor(const std::string& path) {
    do {
      fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    } while (fd_ < 0 && errno == EINTR);
    if (fd_ < 0) throw_error("cannot open file: ", std::strerror(errno), " (", path, ")");
    struct stat info {};
    const bool known = ::fstat(fd_, &info) == 0;
    const int error = errno;
    if (!known || !S_ISREG(info.st_mode)) {
      ::close(fd_);
      throw_error("cannot read file: ", !known ? std::strerror(error) : "not a regular file", " (", path, ")");
    }
    size_ = static_cast<size_t>(info.st_size);
  }
  ~ReadDescriptor() { ::close(fd_); }
  ReadDescriptor(const ReadDescriptor&) = delete;
  ReadDescriptor& operator=(const ReadDescriptor&) = delete;
  int get() const { return fd_; }
  size_t size() const { return size_; }

 private:
  int fd_ = -1;
  size_t size_ = 0;
};

}  // namespace

FileOperations& file_operations() {
  static FileOperations operations = {open_system, ::write, ::pwrite, ::fsync, ::close, ::rename, ::unlink, ::mkdir};
  return operations;
}

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const ReadDescriptor file(path);
  size_ = file.size();
  if (size_ == 0) return;
  void* pages = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (pages == MAP_FAILED) throw_error("cannot map file: ", std::strerror(errno), " (", path, ")");
  data_ = static_cast<const std::byte*>(pages);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(const void* begin, size_t bytes) const {
  const std::less<const std::byte*> before;  // pointers into different memory are not ordered by <
  const auto* first = static_cast<const std::byte*>(begin);
  if (data_ == nullptr || before(first, data_) || before(data_ + size_, first)) return;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t start = static_cast<size_t>(first - data_) / page * page;  // the mapping begins with a page
  const size_t end = std::min(static_cast<size_t>(first - data_) + std::min(bytes, size_), size_);
  // A wish: where it is not granted, the pages stay.
  ::madvise(const_cast<std::byte*>(data_) + start, end - start, MADV_DONTNEED);
}

std::string read_file(const std::string& path, uint64_t max_bytes) {
  const ReadDescriptor file(path);
  ONDOL_CHECK(file.size() <= max_bytes, "cannot read file: ", file.size(), " bytes, at most ", max_bytes,
              " are expected here (", path, ")");
  std::string content(file.size(), '\0');
  size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t count = ::read(file.get(), content.data() + filled, content.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_error("cannot read file: ", std::strerror(errno), " (", path, ")");
    if (count == 0) throw_error("cannot read file: it became shorter while being read (", path, ")");
    filled += static_cast<size_t>(count);
  }
  return content;
}

std::string parent_directory(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void sync_directory(const std::string& path) {
  FileOperations& system = file_operations();
  const int fd = system.open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0) throw_error("cannot open directory: ", std::strerror(errno), " (", path, ")");
  const int status = system.fsync(fd);
  const int error = errno;
  system.close(fd);
  if (status != 0) throw_error("cannot make directory durable: fsync: ", std::strerror(error), " (", path, ")");
}

void rename_durable(const std::string& from, const std::string& to) {
  if (file_operations().rename(from.c_str(), to.c_str()) != 0) {
    throw_error("cannot rename: ", std::strerror(errno), " (", from, " to ", to, ")");
  }
  sync_directory(parent_directory(to));
}

void make_directories(const std::string& path) {
  ONDOL_CHECK(!path.empty(), "cannot create directory: the name is empty");
  for (size_t end = 1; end <= path.size(); ++end) {
    if (end != path.size() && path[end] != '/') continue;
    const std::string prefix = path.substr(0, end);
    if (file_operations().mkdir(prefix.c_str(), 0777) == 0) continue;
    const int error = errno;
    struct stat info {};
    if (::stat(prefix.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) continue;
    const char* reason = error == EEXIST ? "a file of that name exists" : std::strerror(error);
    throw_error("cannot create directory: ", reason, " (", prefix, ")");
  }
}

uint32_t crc32(uint32_t crc, const void* data, size_t size) {
  return static_cast<uint32_t>(::crc32_z(crc, static_cast<const Bytef*>(data), size));
}

std::vector<uint32_t> file_checksums(const std::string& path, size_t chunk_bytes) {
  ONDOL_CHECK(chunk_bytes > 0, "checksum chunks need at least one byte");
  const MappedFile file(path);
  const size_t count = file.size() / chunk_bytes + (file.size() % chunk_bytes != 0);
  std::vector<uint32_t> values(count);
  parallel_for(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t offset = static_cast<size_t>(i) * chunk_bytes;
      values[i] = crc32(0, file.data() + offset, std::min(chunk_bytes, file.size() - offset));
    }
  });
  return values;
}

}  // namespace ondol
