// Work split into tasks that threads take as they become free. Tasks write disjoint outputs, so that neither their
// order nor the number of threads changes a result.
#pragma once

#include <cstdint>

#include <ondol/base/parallel.h>

namespace ondol::cpu::ONDOL_ISA {

/// Less work than this is done on the calling thread: starting a team costs a few microseconds.
inline constexpr double kParallelFlops = 2 << 20;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// Every worker calls make_worker() once and the result with the number of each task it takes.
template <class MakeWorker>
void run_tasks(int64_t tasks, int64_t workers, const MakeWorker& make_worker) {
  int64_t next = 0;
  parallel_for(smaller(tasks, workers), 1, [&](int64_t, int64_t) {
    auto worker = make_worker();
    for (;;) {
      const int64_t task = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
      if (task >= tasks) return;
      worker(task);
    }
  });
}

}  // namespace ondol::cpu::ONDOL_ISA
