// The thread that shows the store that this rank lives, and hears from it that another does not.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <ondol/distributed/job.h>

#include "distributed/store_client.h"

namespace ondol {

class Heartbeat {
 public:
  struct Status {
    int64_t step = -1;
    int64_t progress = 0;
    std::string work;  // what takes long
  };
  struct Failure {
    std::string message;
    bool usage = false;
    int rank = -1;
  };

  /// Joins the job. `on_failure` is called once, by the thread.
  Heartbeat(const RankInfo& info, const JobOptions& options, std::function<void(const std::string&)> on_failure);
  /// Takes leave.
  ~Heartbeat();

  void set_last_collective(std::function<std::string()> last_collective);
  /// Changes the status, which is then sent soon.
  template <class Change>
  void change(const Change& apply) {
    const std::lock_guard lock(mutex_);
    apply(status_);
    hurry_ = true;
    changed_.notify_all();
  }
  std::optional<Failure> failure() const;
  /// Tells the store why this rank gives up, and waits for what the store takes for the cause if that is asked for.
  std::optional<Failure> report(const std::string& reason, bool wait_for_cause);

 private:
  void run();
  void beat();
  StoreRequest status_request(StoreOp op);
  void fail(Failure failure);
  Failure lost_store(const std::string& reason) const;

  RankInfo info_;
  JobOptions options_;
  std::function<void(const std::string&)> on_failure_;
  StoreClient client_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Status status_;
  std::function<std::string()> last_collective_;
  std::string holder_;  // where rank 0 was heard of last
  std::optional<std::string> report_;
  std::optional<Failure> failure_;
  bool hurry_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace ondol
