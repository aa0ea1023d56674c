#include <ondol/base/parallel.h>

#include <algorithm>
#include <exception>

#include <omp.h>

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

namespace detail {

void parallel_ranges(int64_t count, int64_t grain, RangeFunction function, const void* body) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t blocks = (count + grain - 1) / grain;
  const int threads = static_cast<int>(std::min<int64_t>(thread_setting(), blocks));
  if (threads == 1 || omp_in_parallel()) {
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
