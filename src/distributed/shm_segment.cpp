#include "distributed/shm_segment.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <fstream>
#include <new>
#include <thread>

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ondol {

namespace {

/// Areas that fit the second-level cache together with the tensor's part when the working and the communication threads
/// of all ranks have cores to themselves; larger ones when threads take turns on a core, so that they change places
/// less often.
constexpr size_t kAreaBytes = 512u << 10, kCrowdedAreaBytes = 1u << 20;
constexpr size_t kLettersBytes = 8u << 20, kMinLetterBytes = 4u << 10, kMaxLetterBytes = 256u << 10;

size_t round_up(size_t bytes) { return (bytes + 4095) / 4096 * 4096; }

std::string system_reason() { return std::strerror(errno); }

}  // namespace

void sleep_on(std::atomic<uint32_t>& word, uint32_t seen, std::chrono::nanoseconds time) {
  static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);
  const timespec limit{static_cast<time_t>(time.count() / 1000000000), static_cast<long>(time.count() % 1000000000)};
  syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
}

void wake_sleepers(std::atomic<uint32_t>& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

std::string shm_host() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::string host = boot;
  for (const char* space : {"/proc/self/ns/pid", "/proc/self/ns/net"}) {
    struct stat status {};
    host += concat("/", stat(space, &status) == 0 ? static_cast<uint64_t>(status.st_ino) : 0);
  }
  return concat(host, "/", getuid());
}

ShmSegment::ShmSegment(const CommMembers& members)
    : rank_(members.rank),
      size_(static_cast<int>(members.world_ranks.size())),
      processes_(members.world_ranks.size(), -1) {
  const std::string key = members.options.name + "/shm";
  try {
    if (rank_ == 0) {
      make(*members.rendezvous, key);
    } else {
      open(*members.rendezvous, key, members.options.connect_timeout);
    }
    ShmRank& mine = at(rank_);
    mine.process.store(getpid());
    mine.present.store(1);
    meet(members);
  } catch (...) {
    release();
    throw;
  }
}

ShmSegment::~ShmSegment() { release(); }

void ShmSegment::release() {
  if (file_ >= 0) ::close(file_);
  for (const int process : processes_) {
    if (process >= 0) ::close(process);
  }
  if (memory_ != nullptr) munmap(memory_, bytes_);
}

void ShmSegment::lay_out() {
  const size_t ranks = static_cast<size_t>(size_);
  letter_bytes_ = std::clamp(std::bit_floor(kLettersBytes / (ranks * ranks)), kMinLetterBytes, kMaxLetterBytes);
  mailboxes_ = kHeaderBytes + round_up(ranks * sizeof(ShmRank));
  letters_ = mailboxes_ + round_up(ranks * ranks * sizeof(ShmMailbox));
  areas_ = letters_ + ranks * ranks * letter_bytes_;
  bytes_ = areas_ + ranks * 2 * area_bytes_;
}

void ShmSegment::map() {
  void* const memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  ONDOL_CHECK(memory != MAP_FAILED, "shared memory of ", bytes_, " bytes: ", system_reason());
  memory_ = static_cast<std::byte*>(memory);
}

void ShmSegment::make(Rendezvous& rendezvous, const std::string& key) {
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  area_bytes_ = 2 * static_cast<size_t>(size_) <= cores ? kAreaBytes : kCrowdedAreaBytes;
  lay_out();
  file_ = memfd_create("ondol", MFD_CLOEXEC);
  ONDOL_CHECK(file_ >= 0, "shared memory: ", system_reason());
  ONDOL_CHECK(ftruncate(file_, static_cast<off_t>(bytes_)) == 0, "shared memory of ", bytes_,
              " bytes: ", system_reason());
  map();  // all zeros: no rank is present
  rendezvous.set(key, concat(getpid(), " ", file_, " ", area_bytes_, " ", shm_host()));
}

void ShmSegment::open(Rendezvous& rendezvous, const std::string& key, std::chrono::milliseconds timeout) {
  std::istringstream place(rendezvous.get(key, timeout));
  int process = 0, file = 0;
  std::string host;
  place >> process >> file >> area_bytes_ >> host;
  ONDOL_CHECK(!place.fail(), "shared memory: \"", place.str(), "\" does not name any (", key, ")");
  if (host != shm_host()) throw UsageError("shared memory: the ranks are not all on one host, under one user");
  const std::string path = concat("/proc/", process, "/fd/", file);
  file_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ONDOL_CHECK(file_ >= 0, "shared memory: ", system_reason(), " (", path, " of rank 0)");
  struct stat status {};
  lay_out();
  ONDOL_CHECK(fstat(file_, &status) == 0 && static_cast<size_t>(status.st_size) == bytes_,
              "shared memory: rank 0 has made it for another number of ranks than ", size_);
  map();
}

void ShmSegment::meet(const CommMembers& members) {
  Patience patience(members.options.connect_timeout);
  for (;;) {
    std::string missing;
    for (int r = 0; r < size_; ++r) {
      if (at(r).present.load() == 0)
        missing += concat(missing.empty() ? "" : ", ", members.world_ranks[static_cast<size_t>(r)]);
    }
    if (missing.empty()) break;
    ONDOL_CHECK(!patience.over(), "shared memory: rank ", missing, " did not join within ",
                members.options.connect_timeout.count(), " ms");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ::close(file_);  // the mapping keeps the memory
  file_ = -1;
  for (int r = 0; r < size_; ++r) {
    if (r != rank_)
      processes_[static_cast<size_t>(r)] = static_cast<int>(syscall(SYS_pidfd_open, at(r).process.load(), 0));
  }
}

bool ShmSegment::ended(int rank) const {
  if (rank == rank_) return false;
  const int process = processes_[static_cast<size_t>(rank)];
  if (process < 0) return kill(at(rank).process.load(), 0) != 0 && errno == ESRCH;
  pollfd poll_one{process, POLLIN, 0};
  return poll(&poll_one, 1, 0) > 0;
}

}  // namespace ondol
