// One process at a time in a run directory.
//
//   DirectoryLock lock("runs/llama-15m");     // throws when another process holds it
//
// The lock is flock(2) on DIRECTORY/.lock, which holds the process id for the error message. The kernel releases it
// when the process dies however it dies, so that a file left behind by a killed run never blocks the next one.
#pragma once

#include <string>

namespace ondol {

class DirectoryLock {
 public:
  /// The directory must exist. Throws Error `directory is in use: locked by process N (DIRECTORY)`.
  explicit DirectoryLock(const std::string& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  std::string path_;
  int fd_ = -1;
};

}  // namespace ondol
