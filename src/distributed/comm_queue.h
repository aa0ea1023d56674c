// The communication thread of a process: calls of one communicator, and of those that were split from it, one after the
// other in the order in which they were made.
//
//   auto queue = CommQueue::start();
//   CommEvent event = queue->add([=] { ... }, {tensor});
//   event.wait();               // does the work itself when the thread has not got to it yet
//
// The thread sleeps while there is nothing to do; a caller that waits takes the next call itself, which saves the way
// to the thread and back where latency matters.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <ondol/distributed/communicator.h>

namespace ondol {

class CommQueue : public std::enable_shared_from_this<CommQueue> {
 public:
  static std::shared_ptr<CommQueue> start();
  ~CommQueue();
  CommQueue(const CommQueue&) = delete;
  CommQueue& operator=(const CommQueue&) = delete;

  /// `exposed` is told the seconds that callers spend waiting; `tensors` live until the work is done.
  CommEvent add(std::function<void()> work, std::vector<Tensor> tensors, std::function<void(double)> exposed);

  /// The seats of those who must show a sign of life now and then: called a few times a second by whoever does the
  /// work, in between calls by the thread. Must not throw.
  int watch(std::function<void()> sign_of_life);
  void unwatch(int seat);

  /// For work that waits: gives all signs of life if it is time for that.
  void keep_alive();

 private:
  struct Task;
  using Clock = std::chrono::steady_clock;

  CommQueue() = default;
  void run();
  void run_task(const std::shared_ptr<Task>& task);
  bool run_next(std::unique_lock<std::mutex>& lock);
  void wait(Task& task);

  std::mutex mutex_;
  std::condition_variable changed_, ended_;
  std::deque<std::shared_ptr<Task>> tasks_;
  bool busy_ = false;      // somebody does work (one at a time)
  bool sleeping_ = false;  // the thread waits for work
  bool stop_ = false;
  std::mutex seats_mutex_;
  std::vector<std::function<void()>> seats_;
  Clock::time_point last_signs_{};
  std::thread thread_;
};

}  // namespace ondol
