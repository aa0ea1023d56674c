// The worker threads behind parallel_for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace ondol::detail {

/// Runs one function on a team of threads. Waiting threads spin for a few dozen microseconds, which covers the gaps
/// between the ops of a training step, and sleep after that: on a machine with other work a spinning thread would take
/// the processor from the very thread it waits for.
class ThreadPool {
 public:
  using Task = void (*)(void* argument, int rank);

  /// The pool of the process; it is never destroyed.
  static ThreadPool& instance();

  /// Runs task(argument, rank) for each rank of 0 .. team-1, rank 0 on the calling thread, and returns when all are
  /// done. False, and nothing run, when the pool is not free: the caller is inside a task, another thread is using the
  /// pool, or this is a forked child. The task must not throw.
  bool run(int team, Task task, void* argument);

 private:
  struct Worker;

  ThreadPool();
  void add_worker();
  static void work(ThreadPool& pool, Worker& worker, int rank);

  std::mutex in_use_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Task task_ = nullptr;
  void* argument_ = nullptr;
  std::atomic<int> unfinished_{0};
};

}  // namespace ondol::detail
