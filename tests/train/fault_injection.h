// Makes the N-th call that writes to the file system fail.
//
//   const FaultInjection injection(7, ENOSPC);     // until the end of the scope
#pragma once

#include <cerrno>
#include <filesystem>

#include <ondol/base/file.h>

namespace ondol::testing {

/// What the replaced system calls share; they are plain functions.
struct Fault {
  int calls = 0;
  int fail_at = -1;
  int error = ENOSPC;
  FileOperations real{};

  bool strikes() {
    if (calls++ != fail_at) return false;
    errno = error;
    return true;
  }
};
inline Fault& fault() {
  static Fault state;
  return state;
}

class FaultInjection {
 public:
  FaultInjection(int fail_at, int error) {
    fault() = {0, fail_at, error, file_operations()};
    FileOperations& table = file_operations();
    table.open = [](const char* path, int flags, mode_t mode) {
      return fault().strikes() ? -1 : fault().real.open(path, flags, mode);
    };
    table.write = [](int fd, const void* data, size_t size) -> ssize_t {
      if (!fault().strikes()) return fault().real.write(fd, data, size);
      if (errno == ENOSPC && size > 1) {  // a full disk takes a part first, and fails on the rest
        fault().fail_at = fault().calls;
        return fault().real.write(fd, data, size / 2);
      }
      return -1;
    };
    table.pwrite = [](int fd, const void* data, size_t size, off_t offset) -> ssize_t {
      if (!fault().strikes()) return fault().real.pwrite(fd, data, size, offset);
      if (errno == ENOSPC && size > 1) {
        fault().fail_at = fault().calls;
        return fault().real.pwrite(fd, data, size / 2, offset);
      }
      return -1;
    };
    table.fsync = [](int fd) { return fault().strikes() ? -1 : fault().real.fsync(fd); };
    table.rename = [](const char* from, const char* to) {
      return fault().strikes() ? -1 : fault().real.rename(from, to);
    };
    table.mkdir = [](const char* path, mode_t mode) {
      if (std::filesystem::exists(path)) return fault().real.mkdir(path, mode);
      return fault().strikes() ? -1 : fault().real.mkdir(path, mode);
    };
  }
  ~FaultInjection() { file_operations() = fault().real; }
};

}  // namespace ondol::testing
