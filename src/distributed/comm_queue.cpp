#include "distributed/comm_queue.h"

#include <utility>

#include "distributed/spin.h"

namespace ondol {

namespace {
constexpr auto kSignInterval = std::chrono::milliseconds(250);
constexpr auto kSpin = std::chrono::microseconds(20);
}  // namespace

struct CommQueue::Task final : CommEvent::State {
  std::weak_ptr<CommQueue> queue;  // gone only when the work has ended
  std::function<void()> work;
  std::vector<Tensor> tensors;
  std::function<void(double)> exposed;
  std::exception_ptr error;
  std::atomic<bool> ended{false};

  void wait() override {
    if (!ended.load(std::memory_order_acquire)) {
      if (const std::shared_ptr<CommQueue> owner = queue.lock()) owner->wait(*this);
    }
    if (error) std::rethrow_exception(error);
  }
  void synchronize() override { wait(); }
  bool done() override { return ended.load(std::memory_order_acquire); }
};

std::shared_ptr<CommQueue> CommQueue::start() {
  const std::shared_ptr<CommQueue> queue(new CommQueue());
  queue->thread_ = std::thread([raw = queue.get()] { raw->run(); });
  return queue;
}

CommQueue::~CommQueue() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

CommEvent CommQueue::add(std::function<void()> work, std::vector<Tensor> tensors, std::function<void(double)> exposed) {
  auto task = std::make_shared<Task>();
  task->queue = weak_from_this();
  task->work = std::move(work);
  task->tensors = std::move(tensors);
  task->exposed = std::move(exposed);
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(task);
    wake = sleeping_ && !busy_;
  }
  if (wake) changed_.notify_one();
  return CommEvent(std::move(task));
}

void CommQueue::run_task(const std::shared_ptr<Task>& task) {
  try {
    task->work();
  } catch (...) {
    task->error = std::current_exception();
  }
  task->work = nullptr;
  task->tensors.clear();
  task->ended.store(true, std::memory_order_release);
}

bool CommQueue::run_next(std::unique_lock<std::mutex>& lock) {
  if (busy_ || tasks_.empty()) return false;
  const std::shared_ptr<Task> task = std::move(tasks_.front());
  tasks_.pop_front();
  busy_ = true;
  lock.unlock();
  run_task(task);
  lock.lock();
  busy_ = false;
  ended_.notify_all();
  return true;
}

void CommQueue::wait(Task& task) {
  const auto start = Clock::now();
  std::unique_lock lock(mutex_);
  while (!task.ended.load(std::memory_order_acquire)) {
    if (run_next(lock)) continue;
    lock.unlock();
    const bool ended = spin_until([&] { return task.ended.load(std::memory_order_acquire); }, kSpin);
    lock.lock();
    if (!ended && busy_ && !task.ended.load(std::memory_order_acquire)) ended_.wait(lock);
  }
  const bool wake = sleeping_ && !busy_ && !tasks_.empty();
  lock.unlock();
  if (wake) changed_.notify_one();
  task.exposed(std::chrono::duration<double>(Clock::now() - start).count());
}

void CommQueue::run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (run_next(lock)) continue;
    sleeping_ = true;
    changed_.wait_for(lock, kSignInterval);
    sleeping_ = false;
    if (busy_ || stop_) continue;  // whoever is at work gives the signs
    busy_ = true;
    lock.unlock();
    keep_alive();
    lock.lock();
    busy_ = false;
    ended_.notify_all();
  }
}

int CommQueue::watch(std::function<void()> sign_of_life) {
  const std::lock_guard lock(seats_mutex_);
  seats_.push_back(std::move(sign_of_life));
  return static_cast<int>(seats_.size()) - 1;
}

void CommQueue::unwatch(int seat) {
  const std::lock_guard lock(seats_mutex_);
  seats_[static_cast<size_t>(seat)] = nullptr;
}

void CommQueue::keep_alive() {
  const std::lock_guard lock(seats_mutex_);
  const auto now = Clock::now();
  if (now - last_signs_ < kSignInterval / 2) return;
  last_signs_ = now;
  for (const auto& sign_of_life : seats_) {
    if (sign_of_life) sign_of_life();
  }
}

}  // namespace ondol
