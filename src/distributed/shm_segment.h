// Memory that the processes of one host share: a place for each rank to say how far it is and that it lives, mailboxes
// for each pair of ranks, and areas through which tensors pass.
//
// The memory is an anonymous file (memfd) that the others open through /proc: it has no name that could stay behind,
// and is no part of the limited /dev/shm of a container. It is gone when the last process is.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <ondol/distributed/communicator.h>

#include "distributed/host_communicator.h"
#include "distributed/transports.h"

namespace ondol {

/// What a rank shows. `phase` counts the steps of collectives that it has come to; others sleep on it.
struct alignas(128) ShmRank {
  std::atomic<uint32_t> phase;
  std::atomic<uint32_t> sleepers;
  alignas(64) std::atomic<uint32_t> present;  // 0 not yet, 1 yes, 2 it has left
  std::atomic<int32_t> process;
  std::atomic<uint64_t> signs_of_life;
  CallMark marks[2];  // of the collectives with even and odd numbers
};

/// One direction between two ranks: bytes written and read so far, each written by one side only.
struct alignas(128) ShmMailbox {
  std::atomic<uint32_t> written;
  std::atomic<uint32_t> write_sleepers;
  alignas(64) std::atomic<uint32_t> read;
  std::atomic<uint32_t> read_sleepers;
};

struct ShmHeader {
  std::atomic<uint32_t> failed;  // 0 no, 1 the text is being written, 2 yes
  char failure[1020];
};

class ShmSegment {
 public:
  /// Collective: rank 0 makes the memory, all map it and wait until everybody has.
  explicit ShmSegment(const CommMembers& members);
  ~ShmSegment();
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;

  ShmHeader& header() const { return *reinterpret_cast<ShmHeader*>(memory_); }
  ShmRank& at(int rank) const { return reinterpret_cast<ShmRank*>(memory_ + kHeaderBytes)[rank]; }
  ShmMailbox& mailbox(int from, int to) const {
    return reinterpret_cast<ShmMailbox*>(memory_ + mailboxes_)[from * size_ + to];
  }
  std::byte* letters(int from, int to) const {
    return memory_ + letters_ + static_cast<size_t>(from * size_ + to) * letter_bytes_;
  }
  /// A power of two.
  size_t letter_bytes() const { return letter_bytes_; }
  /// Two areas for each rank, used in turn.
  std::byte* area(int rank, int turn) const {
    return memory_ + areas_ + static_cast<size_t>(rank * 2 + turn) * area_bytes_;
  }
  size_t area_bytes() const { return area_bytes_; }

  /// Whether the process of a rank has ended.
  bool ended(int rank) const;

 private:
  static constexpr size_t kHeaderBytes = 4096;
  void lay_out();
  void make(Rendezvous& rendezvous, const std::string& key);
  void open(Rendezvous& rendezvous, const std::string& key, std::chrono::milliseconds timeout);
  void map();
  void release();
  void meet(const CommMembers& members);

  const int rank_, size_;
  size_t area_bytes_ = 0, letter_bytes_ = 0;
  size_t mailboxes_ = 0, letters_ = 0, areas_ = 0, bytes_ = 0;
  int file_ = -1;  // while the ranks meet
  std::byte* memory_ = nullptr;
  std::vector<int> processes_;  // a file descriptor for each rank that becomes readable when the process ends
};

/// Sleeps while `word` is `seen`, at most `time`; others call wake_sleepers after they have changed it.
void sleep_on(std::atomic<uint32_t>& word, uint32_t seen, std::chrono::nanoseconds time);
void wake_sleepers(std::atomic<uint32_t>& word);

}  // namespace ondol
