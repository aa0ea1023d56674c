#include <ondol/base/parallel.h>

#include <algorithm>
#include <exception>

#include <omp.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <ondol/base/error.h>

namespace ondol {

namespace {
int& thread_setting() {
  static int count = std::max(1, omp_get_num_procs());
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

void parallel_ranges(int64_t count, int64_t grain, RangeFunction function, const void* body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (count + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<int64_t>(thread_setting(), blocks));
  if (threads == 1 || omp_in_parallel()) {
    const FlushSubnormals flush;
    function(body, 0, count);
    return;
  }
  std::exception_ptr first_error;
#pragma omp parallel num_threads(threads)
  {
    const int64_t team = omp_get_num_threads();
    const int64_t rank = omp_get_thread_num();
    const int64_t begin = blocks * rank / team * grain;
    const int64_t end = std::min(blocks * (rank + 1) / team * grain, count);
    try {
      const FlushSubnormals flush;
      if (begin < end) function(body, begin, end);
    } catch (...) {
#pragma omp critical(ondol_parallel_error)
      if (!first_error) first_error = std::current_exception();
    }
  }
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace detail
}  // namespace ondol
