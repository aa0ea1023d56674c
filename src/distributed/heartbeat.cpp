#include "distributed/heartbeat.h"

#include <algorithm>
#include <charconv>

#include <unistd.h>

#include <ondol/base/build_info.h>
#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr std::chrono::milliseconds kBeat{500};
constexpr std::chrono::milliseconds kShortestBeat{20};
constexpr std::chrono::milliseconds kAnswerTime{2500};  // for the store to find the cause of what a rank reports

/// The number in "all_reduce #12, 4096 bytes".
int64_t sequence_of(const std::string& collective) {
  const size_t at = collective.find('#');
  int64_t number = 0;
  if (at != std::string::npos) {
    std::from_chars(collective.data() + at + 1, collective.data() + collective.size(), number);
  }
  return number;
}

}  // namespace

Heartbeat::Heartbeat(const RankInfo& info, const JobOptions& options,
                     std::function<void(const std::string&)> on_failure)
    : info_(info),
      options_(options),
      on_failure_(std::move(on_failure)),
      client_(info.master_address, info.master_port, info.job_secret, options.join_timeout) {
  client_.set_patience(options_.limits.silence);
  client_.call({.op = StoreOp::join,
                .first = info_.rank,
                .second = info_.size,
                .third = ::getpid(),
                .key = host_name(),
                .value = build_info().version},
               "joining the job", {});
  thread_ = std::thread([this] { run(); });
}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Heartbeat::set_last_collective(std::function<std::string()> last_collective) {
  const std::lock_guard lock(mutex_);
  last_collective_ = std::move(last_collective);
}

std::optional<Heartbeat::Failure> Heartbeat::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

std::optional<Heartbeat::Failure> Heartbeat::report(const std::string& reason, bool wait_for_cause) {
  std::unique_lock lock(mutex_);
  if (failure_) return failure_;
  report_ = reason;
  hurry_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, kAnswerTime, [&] { return failure_.has_value() || !(report_ || wait_for_cause); });
  return failure_;
}

StoreRequest Heartbeat::status_request(StoreOp op) {
  const std::lock_guard lock(mutex_);
  StoreRequest request{.op = op, .first = status_.step, .third = status_.progress, .key = status_.work};
  if (op == StoreOp::fail) {
    request.value = *report_;
  } else if (last_collective_) {
    request.value = last_collective_();
    request.second = sequence_of(request.value);
  }
  request.key.resize(std::min(request.key.size(), kMaxStoreKey));
  return request;
}

Heartbeat::Failure Heartbeat::lost_store(const std::string& reason) const {
  if (info_.store_in_launcher) return {concat("the launcher is gone: ", reason)};
  const std::string who =
      holder_.find('(') == std::string::npos ? concat("rank 0 (", info_.master_address, ")") : holder_;
  return {concat(who, " died or cannot be reached: ", reason), false, 0};
}

/// One exchange with the store.
void Heartbeat::beat() {
  const bool reports = [this] {
    const std::lock_guard lock(mutex_);
    return report_.has_value();
  }();
  StoreReply reply;
  try {
    if (reports) {
      reply = client_.exchange(status_request(StoreOp::fail), "report", {});
      const std::lock_guard lock(mutex_);
      report_.reset();
      changed_.notify_all();
    } else {
      reply = client_.exchange(status_request(StoreOp::beat), "heartbeat", {});
    }
  } catch (const std::exception& error) {
    return fail(lost_store(error.what()));
  }
  const std::string text = reply.values.empty() ? "" : reply.values.front();
  if (reply.status == StoreStatus::failed) {
    return fail({text, reply.values.size() > 1 && reply.values[1] == "usage", static_cast<int>(reply.number)});
  }
  if (reply.status != StoreStatus::ok) return fail({"the store does not know this rank: " + text});
  const std::lock_guard lock(mutex_);
  holder_ = text;
}

void Heartbeat::fail(Failure failure) {
  const std::string message = failure.message;
  {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
  }
  changed_.notify_all();
  on_failure_(message);
}

void Heartbeat::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_ && !failure_) {
    lock.unlock();
    beat();
    lock.lock();
    changed_.wait_for(lock, kShortestBeat, [this] { return stopping_ || report_ || failure_; });
    changed_.wait_for(lock, kBeat - kShortestBeat, [this] { return stopping_ || hurry_ || failure_; });
    hurry_ = false;
  }
  if (failure_ && !changed_.wait_for(lock, options_.leave_time, [this] { return stopping_; }) && options_.on_overdue) {
    const std::string message = failure_->message;
    lock.unlock();
    options_.on_overdue(message);
    lock.lock();
  }
  changed_.wait(lock, [this] { return stopping_; });
  lock.unlock();
  try {
    client_.exchange(status_request(StoreOp::leave), "farewell", {});
  } catch (const std::exception&) {  // nobody is left to hear it
  }
}

}  // namespace ondol
