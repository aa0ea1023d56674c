#include <ondol/base/parallel.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <ondol/base/error.h>

#include "base/thread_pool.h"

namespace ondol {

namespace {
int& thread_setting() {
  static int count = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return count;
}
}  // namespace

void set_num_threads(int count) {
  if (count < 1) throw UsageError(concat("number of threads must be at least 1, got ", count));
  thread_setting() = count;
}

int num_threads() { return thread_setting(); }

namespace {

/// While it lives, results of this thread below the smallest normal number become 0. Softmax makes many of them, and
/// arithmetic with them is a hundred times slower.
class FlushSubnormals {
 public:
  FlushSubnormals() : before_(control()) {
    if ((before_ & kFlush) != kFlush) set_control(before_ | kFlush);
  }
  ~FlushSubnormals() {
    if ((before_ & kFlush) != kFlush) set_control(before_);
  }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
#if defined(__x86_64__)
  using Control = unsigned;
  static constexpr Control kFlush = 0x8040;  // flush to zero, denormals are zero
  static Control control() { return _mm_getcsr(); }
  static void set_control(Control value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Control = unsigned long;
  static constexpr Control kFlush = 1ul << 24;
  static Control control() {
    Control value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set_control(Control value) { __asm__ volatile("msr fpcr, %0" : : "r"(value)); }
#else
  using Control = unsigned;
  static constexpr Control kFlush = 0;
  static Control control() { return 0; }
  static void set_control(Control) {}
#endif
  const Control before_;
};

}  // namespace

namespace detail {

namespace {

/// One parallel region: how the range is cut, and the first exception of any thread.
struct Region {
  int64_t count, grain, blocks, team;
  RangeFunction function;
  const void* body;
  std::mutex mutex;
  std::exception_ptr first_error;
};

void run_range(void* argument, int rank) {
  Region& region = *static_cast<Region*>(argument);
  const int64_t begin = region.blocks * rank / region.team * region.grain;
  const int64_t end = std::min(region.blocks * (rank + 1) / region.team * region.grain, region.count);
  if (begin >= end) return;
  const FlushSubnormals flush;
  try {
    region.function(region.body, begin, end);
  } catch (...) {
    const std::lock_guard lock(region.mutex);
    if (!region.first_error) region.first_error = std::current_exception();
  }
}

}  // namespace

void parallel_ranges(int64_t count, int64_t grain, RangeFunction function, const void* body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (count + grain - 1) / grain;
  const int team = static_cast<int>(std::min<int64_t>(thread_setting(), blocks));
  if (team > 1) {
    Region region{count, grain, blocks, team, function, body, {}, {}};
    if (ThreadPool::instance().run(team, run_range, &region)) {
      if (region.first_error) std::rethrow_exception(region.first_error);
      return;
    }
  }
  const FlushSubnormals flush;
  function(body, 0, count);
}

}  // namespace detail
}  // namespace ondol
