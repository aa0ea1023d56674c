#include <ondol/base/directory_lock.h>

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ondol/base/error.h>

namespace ondol {

namespace {

std::string holder(int fd) {
  char text[32] = {};
  const ssize_t count = ::pread(fd, text, sizeof(text) - 1, 0);
  std::string digits;
  for (ssize_t i = 0; i < count && text[i] >= '0' && text[i] <= '9'; ++i) digits += text[i];
  return digits.empty() ? "another process" : "process " + digits;
}

// The holder before us removes the file when it is done: the lock counts only while the name still leads to it.
bool still_named(int fd, const std::string& path) {
  struct stat opened {
  }, named{};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

}  // namespace

DirectoryLock::DirectoryLock(const std::string& directory) : path_(directory + "/.lock") {
  while (fd_ < 0) {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) throw_error("cannot lock directory: ", std::strerror(errno), " (", directory, ")");
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      const std::string owner = holder(fd);
      ::close(fd);
      if (error == EINTR) continue;
      if (error != EWOULDBLOCK) throw_error("cannot lock directory: ", std::strerror(error), " (", directory, ")");
      throw Error(concat("directory is in use: locked by ", owner, " (", directory, ")"),
                  "wait for that run to end, or choose another --output");
    }
    if (!still_named(fd, path_)) {
      ::close(fd);
      continue;
    }
    fd_ = fd;
  }
  const std::string text = concat(::getpid(), "\n");
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, text.data(), text.size(), 0) < 0) {
    const int error = errno;
    ::close(fd_);
    throw_error("cannot lock directory: ", std::strerror(error), " (", directory, ")");
  }
}

DirectoryLock::~DirectoryLock() {
  ::unlink(path_.c_str());
  ::close(fd_);
}

}  // namespace ondol
