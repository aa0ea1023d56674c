// Files that survive crashes: mapped reads, atomic writes, checksums.
//
//   auto file = std::make_shared<const MappedFile>("model.safetensors");   // read-only pages, never copied
//   AtomicFile out("checkpoint/state.bin");                                // written under a temporary name
//   out.write(bytes.data(), bytes.size());
//   out.commit();                                                          // fsync, rename, fsync of the directory
//
// Everything throws Error naming the path and the reason given by the system. A write counts as done only when commit()
// has returned: without it the destructor removes the temporary file and the old content stays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace ondol {

/// The system calls behind every write, replaceable so that a test can make the N-th one fail.
struct FileOperations {
  int (*open)(const char* path, int flags, mode_t mode);
  ssize_t (*write)(int fd, const void* data, size_t size);
  ssize_t (*pwrite)(int fd, const void* data, size_t size, off_t offset);
  int (*fsync)(int fd);
  int (*close)(int fd);
  int (*rename)(const char* from, const char* to);
  int (*unlink)(const char* path);
  int (*mkdir)(const char* path, mode_t mode);
};

/// The table in use, at first the system's own. Replaced by tests only, while no file is being written.
FileOperations& file_operations();

/// A whole file in read-only memory. The file must not be truncated by others while it is mapped.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

  /// Gives the memory of these bytes of the file back to the system, until they are looked at again; ranges outside the
  /// file are left alone.
  void release(const void* begin, size_t bytes) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;  // null for an empty file
  size_t size_ = 0;
};

class AtomicFile {
 public:
  /// Creates `<directory>/.<name>.tmp-<process>-<count>`.
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Makes the content durable under its final name. Throws and removes the temporary file when any step fails.
  void commit();

  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  void flush();
  void write_out(const char* data, size_t size);
  void discard() noexcept;
  [[noreturn]] void fail(const char* what, int error);

  std::string path_;
  std::string temporary_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::vector<char> buffer_;
};

/// The whole file; refused when it is larger than max_bytes.
std::string read_file(const std::string& path, uint64_t max_bytes);

void write_file_atomic(const std::string& path, std::string_view bytes);

/// Moves a finished file or directory to its final name and syncs the parent directory (both names share it).
void rename_durable(const std::string& from, const std::string& to);

/// fsync of a directory: makes the names in it durable.
void sync_directory(const std::string& path);

/// Creates the directory and its parents; existing ones are fine.
void make_directories(const std::string& path);

/// The directory part of a path, "." when there is none.
std::string parent_directory(const std::string& path);

/// zlib's CRC-32, continued from `crc` (0 to start).
uint32_t crc32(uint32_t crc, const void* data, size_t size);

/// CRC-32 of each chunk of a file, computed in parallel.
std::vector<uint32_t> file_checksums(const std::string& path, size_t chunk_bytes);

}  // namespace ondol
