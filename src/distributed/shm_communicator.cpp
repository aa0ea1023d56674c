// Ranks on one host, through shared memory: each rank adds its part of a tensor reading what the others have put into
// their areas, one piece of a tensor at a time, so that the areas stay in the caches.
#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "distributed/host_communicator.h"
#include "distributed/reduction.h"
#include "distributed/shm_segment.h"
#include "distributed/spin.h"
#include "distributed/transports.h"

namespace ondol {

namespace {

/// Sleepers look around that often; failures also wake them.
constexpr auto kSlice = std::chrono::milliseconds(50);
/// Spinning bridges the gaps between ranks that run at the same time, about as long as it takes to sleep and be woken.
/// When ranks share cores it would keep those from running that are waited for.
constexpr auto kSpin = std::chrono::microseconds(15), kCrowdedSpin = std::chrono::microseconds(1);
/// Up to here every rank adds up everything itself: one meeting instead of two.
constexpr size_t kSmallBytes = 4096;
constexpr size_t kLine = 64;

class ShmCommunicator final : public HostCommunicator {
 public:
  explicit ShmCommunicator(const CommMembers& members)
      : HostCommunicator(members),
        segment_(members),
        crowded_(static_cast<unsigned>(size()) > std::thread::hardware_concurrency()),
        pulses_(static_cast<size_t>(size()), Pulse{0, Patience(options().silence_timeout)}) {
    open();
  }
  ~ShmCommunicator() override { close(); }

  CommTransport transport() const override { return CommTransport::shm; }

 private:
  struct Pulse {
    uint64_t signs;
    Patience patience;
  };

  // ---- waiting ----

  /// Returns when enough(word) holds. `peer` is who changes the word.
  template <class Enough>
  void await(std::atomic<uint32_t>& word, std::atomic<uint32_t>& sleepers, int peer, const Enough& enough) {
    const auto reached = [&] { return enough(word.load(std::memory_order_acquire)); };
    if (reached()) return;
    const auto start = std::chrono::steady_clock::now();
    if (!spin_until(reached, crowded_ ? kCrowdedSpin : kSpin)) {
      Patience patience(options().collective_timeout);
      while (!reached()) {
        sleepers.fetch_add(1);
        const uint32_t seen = word.load();
        if (!enough(seen)) sleep_on(word, seen, kSlice);
        sleepers.fetch_sub(1);
        if (!reached()) look_around(peer, reached, patience);
      }
    }
    add_late(peer, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }

  /// Throws when there is no use in waiting for `peer` any longer.
  template <class Reached>
  void look_around(int peer, const Reached& reached, Patience& patience) {
    check_failed();
    take_failure_of_others();
    keep_alive();
    check_failed();
    if (segment_.at(peer).present.load() == 2 && !reached()) {
      throw Error(waiting_for(concat("rank ", world_rank(peer), " has left")));
    }
    if (patience.over() && !reached()) throw_late(peer);
  }

  void take_failure_of_others() noexcept {
    ShmHeader& header = segment_.header();
    if (header.failed.load() == 2) fail(header.failure, false);
  }

  void sign_of_life() noexcept override {
    segment_.at(rank()).signs_of_life.fetch_add(1, std::memory_order_relaxed);
    take_failure_of_others();
    for (int r = 0; r < size() && !failed(); ++r) {
      ShmRank& peer = segment_.at(r);
      if (r == rank() || peer.present.load() == 2) continue;
      if (segment_.ended(r) && peer.present.load() != 2) {
        fail(waiting_for(concat("rank ", world_rank(r), " has died")), true);
      }
      Pulse& pulse = pulses_[static_cast<size_t>(r)];
      const uint64_t signs = peer.signs_of_life.load(std::memory_order_relaxed);
      if (signs != pulse.signs) {
        pulse = {signs, Patience(options().silence_timeout)};
      } else if (pulse.patience.over()) {
        fail(waiting_for(concat("rank ", world_rank(r), " gives no sign of life for ",
                                std::chrono::duration<double>(options().silence_timeout).count(), " s")),
             true);
      }
    }
  }

  void farewell() noexcept override { segment_.at(rank()).present.store(2); }

  void tell_failure(const std::string& text) noexcept override {
    ShmHeader& header = segment_.header();
    uint32_t none = 0;
    if (!header.failed.compare_exchange_strong(none, 1)) return;
    const size_t length = std::min(text.size(), sizeof(header.failure) - 1);
    std::memcpy(header.failure, text.data(), length);
    header.failure[length] = 0;
    header.failed.store(2);
    for (int r = 0; r < size(); ++r) {
      wake_sleepers(segment_.at(r).phase);
      for (int to = 0; to < size(); ++to) {
        wake_sleepers(segment_.mailbox(r, to).written);
        wake_sleepers(segment_.mailbox(r, to).read);
      }
    }
  }

  // ---- collectives ----
  //
  // Areas are used in turn. A rank may fill one again when it has met the others since the turn after its last use:
  // they are done reading it by then. Every collective has at least one meeting.

  void meet() {
    ShmRank& mine = segment_.at(rank());
    mine.phase.store(++phase_);
    if (mine.sleepers.load() > 0) wake_sleepers(mine.phase);
    for (int i = 1; i < size(); ++i) {
      const int peer = (rank() + i) % size();
      ShmRank& theirs = segment_.at(peer);
      await(theirs.phase, theirs.sleepers, peer,
            [this](uint32_t phase) { return static_cast<int32_t>(phase - phase_) >= 0; });
    }
    if (compared_) return;
    compared_ = true;
    for (int r = 0; r < size(); ++r) {
      const CallMark& theirs = segment_.at(r).marks[current().number % 2];
      if (!(theirs == current())) throw Error(differs(r, theirs));
    }
  }
  void begin() {
    segment_.at(rank()).marks[current().number % 2] = current();
    compared_ = false;
  }
  void next_turn() { turn_ ^= 1; }
  std::byte* area(int of) const { return segment_.area(of, turn_); }

  void do_barrier() override {
    begin();
    meet();
  }

  void do_broadcast(void* data, size_t bytes, int root) override {
    begin();
    std::byte* const values = static_cast<std::byte*>(data);
    size_t done = 0;
    do {
      const size_t count = std::min(segment_.area_bytes(), bytes - done);
      next_turn();
      if (rank() == root) copy(area(root), values + done, count);
      meet();
      if (rank() != root) copy(values + done, area(root), count);
      done += count;
    } while (done < bytes);
  }

  void do_all_gather(void* out, const void* in, size_t bytes) override {
    begin();
    std::byte* const to = static_cast<std::byte*>(out);
    const std::byte* const from = static_cast<const std::byte*>(in);
    size_t done = 0;
    do {
      const size_t count = std::min(segment_.area_bytes(), bytes - done);
      next_turn();
      copy(area(rank()), from + done, count);
      meet();
      for (int r = 0; r < size(); ++r) {
        std::byte* const place = to + static_cast<size_t>(r) * bytes + done;
        if (place != from + done) copy(place, r == rank() ? from + done : area(r), count);
      }
      done += count;
    } while (done < bytes);
  }

  void do_reduce_scatter(void* out, const void* in, int64_t count, DType dtype, const ReduceOptions& reduce) override {
    begin();
    const size_t element = dtype_size(dtype), parts = static_cast<size_t>(size()), me = static_cast<size_t>(rank());
    const size_t total = static_cast<size_t>(count) * element;
    size_t step = segment_.area_bytes() / parts;  // bytes of each rank's part at a time
    step -= step % kLine;
    ONDOL_CHECK(step > 0, "[reduce_scatter] shared memory has no room for ", parts, " ranks");
    const std::byte* const from = static_cast<const std::byte*>(in);
    size_t done = 0;
    do {
      const size_t bytes = std::min(step, total - done);
      next_turn();
      if (rank() < reduce.contributors) {
        for (size_t p = 0; p < parts; ++p) {
          if (p != me) copy(area(rank()) + p * step, from + p * total + done, bytes);
        }
      }
      meet();
      add_up(static_cast<std::byte*>(out) + done, from + me * total + done, me * step, bytes, dtype, reduce);
      done += bytes;
    } while (done < total);
  }

  void do_all_reduce(void* out, const void* in, int64_t count, DType dtype, const ReduceOptions& reduce) override {
    begin();
    const size_t total = static_cast<size_t>(count) * dtype_size(dtype), me = static_cast<size_t>(rank());
    std::byte* const to = static_cast<std::byte*>(out);
    const std::byte* const from = static_cast<const std::byte*>(in);
    const bool contributes = rank() < reduce.contributors;
    if (total <= kSmallBytes) {
      next_turn();
      if (contributes) copy(area(rank()), from, total);
      meet();
      return add_up(to, area(rank()), 0, total, dtype, reduce);
    }
    for (size_t done = 0; done < total; done += segment_.area_bytes()) {
      const size_t bytes = std::min(segment_.area_bytes(), total - done);
      size_t part = (bytes + static_cast<size_t>(size()) - 1) / static_cast<size_t>(size());
      part += (kLine - part % kLine) % kLine;
      const size_t begin = std::min(me * part, bytes), end = std::min(begin + part, bytes);
      next_turn();
      if (contributes) {
        copy(area(rank()), from + done, begin);
        copy(area(rank()) + end, from + done + end, bytes - end);
      }
      meet();
      add_up(area(rank()) + begin, from + done + begin, begin, end - begin, dtype, reduce);
      meet();
      for (int r = 0; r < size(); ++r) {
        const size_t first = std::min(static_cast<size_t>(r) * part, bytes), last = std::min(first + part, bytes);
        copy(to + done + first, area(r) + first, last - first);
      }
    }
  }

  /// `bytes` at `offset` of the areas of all contributors, of this rank's own at `mine`.
  void add_up(std::byte* out, const std::byte* mine, size_t offset, size_t bytes, DType dtype,
              const ReduceOptions& reduce) {
    sources_.clear();
    for (int r = 0; r < reduce.contributors; ++r) sources_.push_back(r == rank() ? mine : area(r) + offset);
    reduce_tree(out, sources_, static_cast<int64_t>(bytes / dtype_size(dtype)), dtype, reduce.op);
  }

  static void copy(void* to, const void* from, size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  // ---- messages ----

  void do_send(const void* data, size_t bytes, int to) override {
    const CallMark mark = current();
    put(to, &mark, sizeof(mark));
    put(to, data, bytes);
  }
  void do_recv(void* data, size_t bytes, int from) override {
    CallMark mark;
    take(from, &mark, sizeof(mark));
    if (mark.bytes != bytes) {
      throw Error(
          waiting_for(concat("rank ", world_rank(from), " sends ", mark.bytes, " bytes, ", bytes, " were expected")));
    }
    take(from, data, bytes);
  }

  void put(int to, const void* data, size_t bytes) {
    ShmMailbox& box = segment_.mailbox(rank(), to);
    const uint32_t capacity = static_cast<uint32_t>(segment_.letter_bytes());
    for (size_t done = 0; done < bytes;) {
      const uint32_t written = box.written.load(std::memory_order_relaxed);
      await(box.read, box.read_sleepers, to, [&](uint32_t read) { return written - read < capacity; });
      const uint32_t room = capacity - (written - box.read.load(std::memory_order_acquire));
      const uint32_t at = written % capacity;
      const uint32_t count = static_cast<uint32_t>(std::min<size_t>(std::min(room, capacity - at), bytes - done));
      copy(segment_.letters(rank(), to) + at, static_cast<const std::byte*>(data) + done, count);
      box.written.store(written + count);
      if (box.write_sleepers.load() > 0) wake_sleepers(box.written);
      done += count;
    }
  }
  void take(int from, void* data, size_t bytes) {
    ShmMailbox& box = segment_.mailbox(from, rank());
    const uint32_t capacity = static_cast<uint32_t>(segment_.letter_bytes());
    for (size_t done = 0; done < bytes;) {
      const uint32_t read = box.read.load(std::memory_order_relaxed);
      await(box.written, box.write_sleepers, from, [&](uint32_t written) { return written != read; });
      const uint32_t there = box.written.load(std::memory_order_acquire) - read;
      const uint32_t at = read % capacity;
      const uint32_t count = static_cast<uint32_t>(std::min<size_t>(std::min(there, capacity - at), bytes - done));
      copy(static_cast<std::byte*>(data) + done, segment_.letters(from, rank()) + at, count);
      box.read.store(read + count);
      if (box.read_sleepers.load() > 0) wake_sleepers(box.read);
      done += count;
    }
  }

  std::unique_ptr<Communicator> make_group(const std::vector<int>& members, const std::string& name) override {
    return make_shm_communicator(group_of(members, name));
  }

  ShmSegment segment_;
  const bool crowded_;
  std::vector<Pulse> pulses_;
  uint32_t phase_ = 0;
  int turn_ = 0;
  bool compared_ = false;
  std::vector<const void*> sources_;
};

}  // namespace

std::unique_ptr<Communicator> make_shm_communicator(const CommMembers& members) {
  return std::make_unique<ShmCommunicator>(members);
}

}  // namespace ondol
