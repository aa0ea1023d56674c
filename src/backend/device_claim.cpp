#include "backend/device_claim.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ondol/backend/device_use.h>
#include <ondol/base/error.h>

#include "backend/cuda_details.h"

namespace ondol {

int claim_exclusively(const std::string& lock_file) {
  // Readable and writable for every user, whoever comes first; never followed to somewhere else.
  const int fd = ::open(lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0) return 0;
  char text[32] = {};
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const bool read = ::pread(fd, text, sizeof(text) - 1, 0) > 0;
    ::close(fd);
    return read ? std::atoi(text) : 0;
  }
  ::fchmod(fd, 0666);
  const int length = std::snprintf(text, sizeof(text), "%d\n", static_cast<int>(::getpid()));
  // The lock counts, not its text. The descriptor stays open: the lock lasts as long as the process.
  [[maybe_unused]] const bool noted =
      ::ftruncate(fd, 0) == 0 && ::pwrite(fd, text, static_cast<size_t>(length), 0) == length;
  return 0;
}

std::string claim_device(Device device) {
  if (device.type == DeviceType::cpu) return "";
  static std::mutex mutex;
  static std::map<int, int> owners;
  const std::lock_guard lock(mutex);
  const auto [entry, first] = owners.try_emplace(device.index, 0);
  if (first) {
    std::string id = cuda_device_id(device);
    for (char& c : id) c = c == ':' ? '-' : c;
    entry->second = claim_exclusively("/tmp/ondol-gpu-" + id + ".lock");
  }
  if (entry->second == 0) return "";
  return concat(to_string(device), " is also used by process ", entry->second,
                ": both share its memory and slow each other down");
}

}  // namespace ondol
