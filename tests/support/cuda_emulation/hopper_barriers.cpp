#include <algorithm>
#include <array>

#include <ondol/base/error.h>

#include "emulator.h"
#include "hopper.h"

namespace ondol::emulation {

namespace {

/// An mbarrier in its 64 bits (the format is not documented: any will do).
struct Barrier {
  static constexpr uint64_t kMark = 1;  // in the highest two bits; poisoned memory has 3 there
  static constexpr int64_t kMaxBytes = (1 << 20) - 1;

  int64_t pending, expected, bytes;  // arrivals to come, arrivals of a phase, bytes to come
  unsigned parity;

  static Barrier load(const uint64_t* barrier) {
    const uint64_t word = *barrier;
    if (word >> 62 != kMark) throw_error("emulated kernel: an mbarrier was used that is not initialised");
    return {static_cast<int64_t>(word & 0xfffff), static_cast<int64_t>(word >> 20 & 0xfffff),
            static_cast<int64_t>(word >> 40 & 0x1fffff) - kMaxBytes - 1, static_cast<unsigned>(word >> 61 & 1)};
  }
  void store(uint64_t* barrier) const {
    *barrier = kMark << 62 | static_cast<uint64_t>(parity) << 61 | static_cast<uint64_t>(bytes + kMaxBytes + 1) << 40 |
               static_cast<uint64_t>(expected) << 20 | static_cast<uint64_t>(pending);
  }
  void add_bytes(int64_t more) {
    bytes += more;
    if (std::abs(bytes) > kMaxBytes) throw_error("emulated kernel: an mbarrier expects too many bytes");
  }
  /// Stores it, as the next phase if this one is complete.
  void update(uint64_t* barrier) {
    if (pending == 0 && bytes == 0) {
      pending = expected;
      parity ^= 1;
    }
    store(barrier);
    notify();
  }
};

void check_place(const uint64_t* barrier) {
  if (shared_address(barrier) % 8 != 0) throw_error("emulated kernel: an mbarrier is not aligned to 8 bytes");
}

struct NamedBarrier {
  int threads = 0, arrived = 0;
  uint64_t phase = 0;
};

/// Of the running block.
struct BlockState {
  uint64_t block = 0;
  std::array<NamedBarrier, 16> named;
  std::array<int, 32> registers{};  // of each thread of a warp
  int free_registers = 0;           // of the multiprocessor, for a whole warp each
};

BlockState& state() {
  static BlockState instance;
  if (instance.block != block_count()) {
    instance = {};
    instance.block = block_count();
    const unsigned threads = current.block_dim.x * current.block_dim.y * current.block_dim.z;
    const int each = std::min(65536 / static_cast<int>(threads) / 8 * 8, 248);
    instance.registers.fill(each);
    instance.free_registers = 65536 / 32 - each * static_cast<int>(threads / 32);
  }
  return instance;
}

}  // namespace

void mbarrier_init(uint64_t* barrier, unsigned arrivals) {
  check_place(barrier);
  if (arrivals == 0 || arrivals > 0xfffff) throw_error("emulated kernel: an mbarrier of ", arrivals, " arrivals");
  Barrier{arrivals, arrivals, 0, 0}.store(barrier);
}

void mbarrier_arrive(uint64_t* barrier, unsigned bytes) {
  check_place(barrier);
  Barrier b = Barrier::load(barrier);
  if (b.pending == 0) throw_error("emulated kernel: more arrivals at an mbarrier than it expects");
  b.add_bytes(bytes);
  --b.pending;
  b.update(barrier);
}

void mbarrier_complete(uint64_t* barrier, unsigned bytes) {
  Barrier b = Barrier::load(barrier);
  b.add_bytes(-static_cast<int64_t>(bytes));
  b.update(barrier);
}

void mbarrier_wait(uint64_t* barrier, unsigned parity) {
  check_place(barrier);
  wait_until([=] { return Barrier::load(barrier).parity != parity; });
}

void named_barrier(int number, int threads, bool wait) {
  if (number < 1 || number > 15) throw_error("emulated kernel: named barrier ", number);
  if (threads <= 0 || threads % 32 != 0) throw_error("emulated kernel: a named barrier of ", threads, " threads");
  NamedBarrier& barrier = state().named[static_cast<size_t>(number)];
  if (barrier.arrived > 0 && barrier.threads != threads) {
    throw_error("emulated kernel: threads meet at named barrier ", number, " with ", barrier.threads, " and with ",
                threads, " threads");
  }
  barrier.threads = threads;
  const uint64_t phase = barrier.phase;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.phase;
    notify();
  }
  if (wait) wait_until([&barrier, phase] { return barrier.phase != phase; });
}

void set_registers(int registers) {
  if (registers < 24 || registers > 256 || registers % 8 != 0) {
    throw_error("emulated kernel: setmaxnreg of ", registers, " registers");
  }
  vote(~0u, true);
  if (current.thread.x % 32 != 0) {
    vote(~0u, true);
    return;
  }
  BlockState& s = state();
  int& mine = s.registers[current.thread.x / 32];
  const int more = registers - mine;
  wait_until([&] { return s.free_registers >= more; });
  s.free_registers -= more;
  mine = registers;
  notify();
  vote(~0u, true);
}

}  // namespace ondol::emulation
