// The one thread pool of the process. Work is split by output elements, never by reduction, so that the number
// of threads does not change a bit of any result.
#pragma once

#include <cstdint>

namespace ondol {

/// Threads that parallel_for may use; the default is the number of CPUs this process may run on. Throws on count < 1.
void set_num_threads(int count);
int num_threads();

/// Calls body(begin, end) over disjoint ranges that cover [0, count). Ranges are multiples of `grain` long (but for the
/// last), and nothing is run in parallel when count <= grain: fork and join cost a few microseconds.
/// In the body, results below the smallest normal number become 0 (flush to zero), on every thread alike.
/// Called inside another parallel_for it runs on the calling thread. An exception in the body is rethrown to the caller.
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body);

namespace detail {
using RangeFunction = void (*)(const void* body, int64_t begin, int64_t end);
void parallel_ranges(int64_t count, int64_t grain, RangeFunction function, const void* body);
}  // namespace detail

template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  detail::parallel_ranges(
      count, grain,
      [](const void* b, int64_t begin, int64_t end) { (*static_cast<const Body*>(b))(begin, end); }, &body);
}

}  // namespace ondol
