#include "base/thread_pool.h"

#include <chrono>
#include <thread>

#include <pthread.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ondol::detail {

namespace {

thread_local bool inside_task = false;
std::atomic<bool> is_forked_child{false};

void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Waits until `value` is not `old`.
template <class T>
void wait_for_change(const std::atomic<T>& value, T old) {
  using Clock = std::chrono::steady_clock;
  constexpr auto kSpin = std::chrono::microseconds(60);
  const Clock::time_point start = Clock::now();
  do {
    for (int i = 0; i < 32; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause_briefly();
    }
  } while (Clock::now() - start < kSpin);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

/// A worker's own call counter: it runs the pool's task each time the counter grows. The task's fields do not change
/// before every worker that was called has finished.
struct ThreadPool::Worker {
  alignas(64) std::atomic<uint32_t> calls{0};
};

ThreadPool::ThreadPool() {
  pthread_atfork(nullptr, nullptr, [] { is_forked_child.store(true); });  // threads do not survive a fork
}

ThreadPool& ThreadPool::instance() {
  static ThreadPool* const pool = new ThreadPool();
  return *pool;
}

void ThreadPool::add_worker() {
  workers_.push_back(std::make_unique<Worker>());
  const int rank = static_cast<int>(workers_.size());
  std::thread(work, std::ref(*this), std::ref(*workers_.back()), rank).detach();
}

void ThreadPool::work(ThreadPool& pool, Worker& worker, int rank) {
  inside_task = true;
  for (uint32_t done = 0;; ++done) {
    while (worker.calls.load(std::memory_order_acquire) == done) wait_for_change(worker.calls, done);
    pool.task_(pool.argument_, rank);
    if (pool.unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) pool.unfinished_.notify_one();
  }
}

bool ThreadPool::run(int team, Task task, void* argument) {
  if (inside_task || is_forked_child.load(std::memory_order_relaxed)) return false;
  const std::unique_lock lock(in_use_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  const int helpers = team - 1;
  while (static_cast<int>(workers_.size()) < helpers) add_worker();
  task_ = task;
  argument_ = argument;
  unfinished_.store(helpers, std::memory_order_relaxed);
  for (int i = 0; i < helpers; ++i) {
    workers_[static_cast<size_t>(i)]->calls.fetch_add(1, std::memory_order_release);
    workers_[static_cast<size_t>(i)]->calls.notify_one();
  }
  inside_task = true;
  task(argument, 0);
  inside_task = false;
  for (int left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    wait_for_change(unfinished_, left);
  }
  return true;
}

}  // namespace ondol::detail
