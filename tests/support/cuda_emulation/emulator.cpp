#include "emulator.h"

#include <algorithm>
#include <array>
#include <bit>
#include <csetjmp>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <ondol/base/error.h>

namespace ondol::cuda_emulated {
// Shared memory of the running block: the largest that a GPU has (227 KiB) and pages behind it, in whole 64 KiB pages.
alignas(65536) unsigned char ondol_shared_memory[320 << 10];
}  // namespace ondol::cuda_emulated

namespace ondol::emulation {

ThreadContext current;

namespace {

constexpr int kWarp = 32;
constexpr size_t kStackBytes = size_t{256} << 10;
constexpr unsigned char kPoison = 0xff;  // NaN in every float format
constexpr unsigned char kCanary = 0xa5;

enum class State { ready, at_barrier, at_warp, at_condition, done };

/// A CUDA thread. Switching goes by _setjmp/_longjmp (no system call); ucontext only makes the first entry.
struct Fiber {
  ThreadContext context;
  State state = State::done;
  unsigned mask = 0;   // lanes that must meet at a warp operation
  uint64_t value = 0;  // what this lane brings, then what it receives
  int source = 0;
  bool is_vote = false;
  const std::function<bool()>* condition = nullptr;
  jmp_buf position;
  ucontext_t entry;
  bool entered = false;
  void* stack = nullptr;
};

size_t page_bytes() {
  static const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

class Scheduler {
 public:
  std::mt19937_64 random{1};

  void run_block(const std::function<void()>& body, int threads, const ThreadContext& block) {
    body_ = &body;
    error_ = nullptr;
    while (static_cast<int>(fibers_.size()) < threads) add_fiber();
    threads_ = threads;
    for (int t = 0; t < threads; ++t) {
      Fiber& fiber = *fibers_[t];
      fiber.context = block;
      const unsigned x = block.block_dim.x, y = block.block_dim.y;
      fiber.context.thread = {t % x, t / x % y, t / (x * y)};
      fiber.state = State::ready;
    }
    ready_.fill(0);
    for (int w = 0; w < threads / kWarp; ++w) ready_[w] = ~0u;
    num_ready_ = threads;
    // Blocks differ in temper: all warps in step, mostly one warp at a time, or strictly the first ready one of a
    // random order, which lets it run as far ahead as barriers allow.
    const uint64_t character = random();
    temper_ = static_cast<Temper>(character % 3);
    // What goes on in the background is soon done, takes its time, or comes when everybody waits for it.
    constexpr uint64_t kPaces[] = {16, 2048, 0};
    const uint64_t pace = kPaces[character / 3 % 3];
    std::iota(warp_order_.begin(), warp_order_.end(), 0);
    std::shuffle(warp_order_.begin(), warp_order_.begin() + threads / kWarp, random);
    background_.clear();
    int last_warp = 0;
    for (int done = 0; done < threads;) {
      if (num_ready_ == 0) release_barrier();
      if (!background_.empty() && (num_ready_ == 0 || (pace > 0 && random() % pace == 0))) {
        run_background();
        continue;
      }
      if (num_ready_ == 0) fail_deadlock();
      const int t = pick(last_warp);
      last_warp = t / kWarp;
      resume(*fibers_[t]);
      if (error_) {
        abandon();
        std::rethrow_exception(error_);
      }
      if (fibers_[t]->state == State::done) ++done;
    }
    if (!background_.empty()) throw_error("emulated kernel: a block ended before its asynchronous copies");
  }

  void in_background(std::function<void()> work) { background_.push_back(std::move(work)); }

  void wait_until(const std::function<bool()>& ready) {
    Fiber& fiber = *running_;
    while (!ready()) {
      fiber.condition = &ready;
      wait(State::at_condition);
    }
  }

  void notify() {
    for (int t = 0; t < threads_; ++t) {
      if (fibers_[t]->state == State::at_condition && (*fibers_[t]->condition)()) make_ready(t);
    }
  }

  Fiber& running() { return *running_; }

  void wait(State state) {
    Fiber& fiber = *running_;
    fiber.state = state;
    switch_out(fiber);
  }

  /// The running lane waits until every lane of its mask does; the last one to come wakes the others.
  void wait_warp() {
    Fiber& fiber = *running_;
    const int index = thread_number(fiber);
    const int first = index / kWarp * kWarp;
    if (((fiber.mask >> (index - first)) & 1) == 0) throw_error("emulated kernel: a lane is not in its own mask");
    fiber.state = State::at_warp;
    bool complete = true;
    for (int lane = 0; lane < kWarp && complete; ++lane) {
      if (((fiber.mask >> lane) & 1) == 0) continue;
      const Fiber& other = *fibers_[first + lane];
      complete = other.state == State::at_warp && other.mask == fiber.mask && other.is_vote == fiber.is_vote;
    }
    if (!complete) return switch_out(fiber);
    uint64_t results[kWarp];
    unsigned votes = 0;
    for (int lane = 0; lane < kWarp; ++lane) {
      const Fiber& other = *fibers_[first + lane];
      if (((fiber.mask >> lane) & 1) == 0) continue;
      if (fiber.is_vote && other.value != 0) votes |= 1u << lane;
      if (!fiber.is_vote && ((fiber.mask >> other.source) & 1) == 0) {
        fiber.state = State::ready;
        throw_error("emulated kernel: a shuffle reads a lane outside its mask");
      }
      if (!fiber.is_vote) results[lane] = fibers_[first + other.source]->value;
    }
    for (int lane = 0; lane < kWarp; ++lane) {
      if (((fiber.mask >> lane) & 1) == 0) continue;
      Fiber& other = *fibers_[first + lane];
      other.value = fiber.is_vote ? votes : results[lane];
      make_ready(first + lane);
    }
    switch_out(fiber);  // the order goes on at random
  }

 private:
  int thread_number(const Fiber& fiber) const {
    const ThreadContext& c = fiber.context;
    return static_cast<int>((c.thread.z * c.block_dim.y + c.thread.y) * c.block_dim.x + c.thread.x);
  }

  void make_ready(int t) {
    fibers_[t]->state = State::ready;
    ready_[t / kWarp] |= 1u << (t % kWarp);
    ++num_ready_;
  }

  int pick(int last_warp) {
    const uint64_t r = random();
    int warp = last_warp;
    if (temper_ == Temper::ordered) {
      warp = *std::find_if(warp_order_.begin(), warp_order_.end(), [&](int w) { return ready_[w] != 0; });
    } else if (ready_[warp] == 0 || temper_ == Temper::in_step || r % 10 == 0) {
      const int warps = threads_ / kWarp;
      warp = static_cast<int>((r >> 32) % static_cast<uint64_t>(warps));
      while (ready_[warp] == 0) warp = (warp + 1) % warps;
    }
    const int turn = static_cast<int>((r >> 16) & 31);
    const int lane = (std::countr_zero(std::rotr(ready_[warp], turn)) + turn) & 31;
    ready_[warp] &= ~(1u << lane);
    --num_ready_;
    return warp * kWarp + lane;
  }

  void run_background() {
    const size_t chosen = random() % background_.size();
    const std::function<void()> work = std::move(background_[chosen]);
    background_.erase(background_.begin() + static_cast<std::ptrdiff_t>(chosen));
    try {
      work();
    } catch (...) {
      abandon();
      throw;
    }
  }

  void release_barrier() {
    for (int t = 0; t < threads_; ++t) {
      if (fibers_[t]->state != State::at_barrier) return;
    }
    for (int t = 0; t < threads_; ++t) make_ready(t);
  }

  [[noreturn]] void fail_deadlock() {
    int at_barrier = 0, at_warp = 0, at_condition = 0, done = 0;
    for (int t = 0; t < threads_; ++t) {
      at_barrier += fibers_[t]->state == State::at_barrier;
      at_warp += fibers_[t]->state == State::at_warp;
      at_condition += fibers_[t]->state == State::at_condition;
      done += fibers_[t]->state == State::done;
    }
    abandon();
    throw_error("emulated kernel: threads wait for each other: ", at_barrier, " at a block barrier, ", at_warp,
                " at a warp operation, ", at_condition, " at an mbarrier or a named barrier, ", done, " have returned");
  }

  /// Fibers that stand in the middle of a kernel are given new stacks' worth of state: they start from the top next
  /// time.
  void abandon() {
    for (int t = 0; t < threads_; ++t) {
      if (fibers_[t]->state != State::done) {
        fibers_[t]->entered = false;
        fibers_[t]->state = State::done;
      }
    }
  }

  void add_fiber() {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack =
        mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber->stack == MAP_FAILED) throw_error("emulated kernel: no memory for thread stacks");
    fibers_.push_back(std::move(fiber));
  }

  void resume(Fiber& fiber) {
    running_ = &fiber;
    current = fiber.context;
    if (_setjmp(scheduler_) == 0) {
      if (fiber.entered) _longjmp(fiber.position, 1);
      fiber.entered = true;
      getcontext(&fiber.entry);
      fiber.entry.uc_stack.ss_sp = fiber.stack;
      fiber.entry.uc_stack.ss_size = kStackBytes;
      fiber.entry.uc_link = nullptr;
      makecontext(&fiber.entry, &Scheduler::fiber_main, 0);
      setcontext(&fiber.entry);
    }
  }

  void switch_out(Fiber& fiber) {
    if (_setjmp(fiber.position) == 0) _longjmp(scheduler_, 1);
  }

  /// Runs one kernel body after the other; a fiber is reused by later blocks.
  static void fiber_main();

  const std::function<void()>* body_ = nullptr;
  std::exception_ptr error_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  enum class Temper { in_step, sticky, ordered };
  Temper temper_ = Temper::in_step;
  std::array<int, 32> warp_order_{};
  std::array<unsigned, 32> ready_{};  // lanes of each warp
  std::vector<std::function<void()>> background_;
  int num_ready_ = 0;
  int threads_ = 0;
  Fiber* running_ = nullptr;
  jmp_buf scheduler_;
};

Scheduler& scheduler() {
  static Scheduler instance;
  return instance;
}

void Scheduler::fiber_main() {
  Scheduler& s = scheduler();
  for (;;) {
    try {
      (*s.body_)();
      s.running_->state = State::done;
    } catch (...) {
      s.error_ = std::current_exception();
      s.running_->state = State::done;
    }
    s.switch_out(*s.running_);
  }
}

/// Shared memory as a block finds it; what lies behind the requested size is watched.
class SharedGuard {
 public:
  explicit SharedGuard(size_t bytes) : bytes_(bytes), pages_((bytes + page_bytes() - 1) / page_bytes() * page_bytes()) {
    if (bytes > size_t{227} << 10) throw_error("emulated kernel: ", bytes, " bytes of shared memory");
    protect(PROT_NONE);
  }
  ~SharedGuard() { protect(PROT_READ | PROT_WRITE); }
  void poison() {
    std::memset(memory(), kPoison, bytes_);
    std::memset(memory() + bytes_, kCanary, pages_ - bytes_);
  }
  void check() const {
    for (size_t i = bytes_; i < pages_; ++i) {
      if (memory()[i] != kCanary) {
        throw_error("emulated kernel: shared memory written at byte ", i, " of ", bytes_);
      }
    }
  }

 private:
  static unsigned char* memory() { return cuda_emulated::ondol_shared_memory; }
  void protect(int rights) { mprotect(memory() + pages_, sizeof(cuda_emulated::ondol_shared_memory) - pages_, rights); }
  size_t bytes_, pages_;
};

struct Allocation {
  unsigned char* mapping;
  size_t mapped, bytes;
};
std::exception_ptr deferred_error;
uint64_t launches = 0, blocks_begun = 0;
size_t shared_bytes_of_launch = 0;

void throw_deferred() {
  if (deferred_error) std::rethrow_exception(std::exchange(deferred_error, nullptr));
}
std::unordered_map<void*, Allocation>& allocations() {
  static std::unordered_map<void*, Allocation> instance;
  return instance;
}

}  // namespace

uint64_t launch_count() { return launches; }
uint64_t block_count() { return blocks_begun; }
size_t shared_bytes() { return shared_bytes_of_launch; }

void set_seed(uint64_t seed) { scheduler().random.seed(seed); }

void run_kernel(const LaunchShape& shape, const std::function<void()>& body) {
  throw_deferred();
  ++launches;
  const uint64_t threads = uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  if (threads % kWarp != 0) throw_error("emulated kernel: a block of ", threads, " threads is not whole warps");
  const uint64_t blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), scheduler().random);
  SharedGuard shared(shape.shared_bytes);
  shared_bytes_of_launch = shape.shared_bytes;
  for (const uint32_t b : order) {
    ThreadContext context;
    context.grid_dim = shape.grid;
    context.block_dim = shape.block;
    context.block = {b % shape.grid.x, b / shape.grid.x % shape.grid.y, b / (shape.grid.x * shape.grid.y)};
    shared.poison();
    ++blocks_begun;
    scheduler().run_block(body, static_cast<int>(threads), context);
    shared.check();
  }
}

void block_barrier() { scheduler().wait(State::at_barrier); }
void wait_until(const std::function<bool()>& ready) { scheduler().wait_until(ready); }
void notify() { scheduler().notify(); }
void in_background(std::function<void()> work) { scheduler().in_background(std::move(work)); }

uint64_t exchange(unsigned mask, uint64_t value, int source) {
  Fiber& fiber = scheduler().running();
  fiber.mask = mask;
  fiber.value = value;
  fiber.source = source;
  fiber.is_vote = false;
  scheduler().wait_warp();
  return fiber.value;
}

unsigned vote(unsigned mask, bool predicate) {
  Fiber& fiber = scheduler().running();
  fiber.mask = mask;
  fiber.value = predicate ? 1 : 0;
  fiber.is_vote = true;
  scheduler().wait_warp();
  return static_cast<unsigned>(fiber.value);
}

void* allocate(size_t bytes) {
  throw_deferred();
  const size_t page = page_bytes();
  const size_t rounded = (bytes + 15) / 16 * 16;
  const size_t pages = (rounded + page - 1) / page * page + page;  // a page at least lies before the data
  auto* mapping = static_cast<unsigned char*>(
      mmap(nullptr, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (mapping == MAP_FAILED) throw_error("emulated kernel: out of memory for ", bytes, " bytes");
  mprotect(mapping + pages, page, PROT_NONE);
  std::memset(mapping, kCanary, pages);
  unsigned char* data = mapping + pages - rounded;
  std::memset(data, kPoison, bytes);
  allocations()[data] = {mapping, pages + page, bytes};
  return data;
}

void release(void* memory) {
  throw_deferred();
  const auto found = allocations().find(memory);
  if (found == allocations().end()) throw_error("emulated kernel: memory released that was not allocated");
  const Allocation a = found->second;
  allocations().erase(found);
  const auto* data = static_cast<unsigned char*>(memory);
  const auto* end = a.mapping + a.mapped - page_bytes();
  const bool clean =
      std::all_of(static_cast<const unsigned char*>(a.mapping), data, [](auto c) { return c == kCanary; }) &&
      std::all_of(data + a.bytes, end, [](auto c) { return c == kCanary; });
  munmap(a.mapping, a.mapped);
  if (!clean) throw_error("emulated kernel: global memory written outside an allocation of ", a.bytes, " bytes");
}

void release_later_error(void* memory) noexcept {
  try {
    release(memory);
  } catch (...) {
    deferred_error = std::current_exception();
  }
}

size_t allocated_bytes() {
  size_t sum = 0;
  for (const auto& [memory, a] : allocations()) sum += a.bytes;
  return sum;
}

}  // namespace ondol::emulation
