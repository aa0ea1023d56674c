// What communicators between CPU processes have in common: calls become work for the communication thread, the first
// failure ends everything, and the other ranks are told.
//
// A transport derives from this, implements the do_ functions (run one at a time, in order, usually by the
// communication thread), calls open() at the end of its constructor and close() at the beginning of its destructor.
// Whatever waits in a do_ function looks at check_failed() now and then, calls keep_alive(), and throws Error naming
// the rank that is waited for; waiting_for() makes the message.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include <ondol/distributed/communicator.h>

#include "distributed/comm_queue.h"
#include "distributed/transports.h"

namespace ondol {

/// Which call it is; must be the same on all ranks.
struct CallMark {
  enum Kind : uint32_t { all_reduce, reduce_scatter, all_gather, broadcast, barrier, send, recv };

  uint32_t kind = barrier;
  uint32_t type = 0;  // dtype and operation
  int32_t root = 0;   // of a broadcast; the number of contributors of a reduction; the other rank of send and recv
  uint32_t padding = 0;
  uint64_t number = 0;  // collectives are counted from 1, and so are calls of send and recv together
  uint64_t bytes = 0;

  bool operator==(const CallMark&) const = default;
};

/// "all_reduce #12, 4096 bytes".
std::string to_string(const CallMark& mark);

/// Time spent waiting. Gaps in which this process did not run (stopped, suspended) hardly count.
class Patience {
 public:
  explicit Patience(std::chrono::nanoseconds limit) : limit_(limit) {}
  /// To be called a few times a second.
  bool over();

 private:
  using Clock = std::chrono::steady_clock;
  std::chrono::nanoseconds limit_, spent_{0};
  Clock::time_point last_ = Clock::now();
};

class HostCommunicator : public Communicator {
 public:
  void abort(const std::string& reason) final;
  std::string last_collective() const final;
  CommStatistics statistics() const final;
  std::string failure() const final;

 protected:
  explicit HostCommunicator(const CommMembers& members);

  /// From here on sign_of_life is called.
  void open();
  /// Calls under way end with an error, then comes the farewell; nothing of this is done after that.
  void close();

  virtual void do_all_reduce(void* out, const void* in, int64_t count, DType dtype, const ReduceOptions& reduce) = 0;
  /// `count` elements of out.
  virtual void do_reduce_scatter(void* out, const void* in, int64_t count, DType dtype,
                                 const ReduceOptions& reduce) = 0;
  /// `bytes` of each rank.
  virtual void do_all_gather(void* out, const void* in, size_t bytes) = 0;
  virtual void do_broadcast(void* data, size_t bytes, int root) = 0;
  virtual void do_barrier() = 0;
  virtual void do_send(const void* data, size_t bytes, int to) = 0;
  virtual void do_recv(void* data, size_t bytes, int from) = 0;

  /// A few times a second: shows the others that this process lives, and may look at theirs.
  virtual void sign_of_life() noexcept = 0;
  /// The last thing that is done: the others need not look for this rank any more.
  virtual void farewell() noexcept = 0;
  /// Tells the other ranks; any thread.
  virtual void tell_failure(const std::string& text) noexcept = 0;

  /// The first failure counts. `tell`: it is news for the other ranks.
  void fail(const std::string& text, bool tell) noexcept;
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  /// Throws the failure, if there is one.
  void check_failed() const;

  /// The call that is being done, and its error messages: "[all_reduce #12, 4096 bytes] WHAT (rank 1 was waiting)", or
  /// "[after all_reduce #12, 4096 bytes] WHAT (noticed by rank 1)" between calls.
  const CallMark& current() const { return current_; }
  std::string waiting_for(const std::string& what) const;
  std::string differs(int peer, const CallMark& theirs) const;
  /// For a rank that has not made the call within the limit for collectives.
  [[noreturn]] void throw_late(int peer) const;

  void keep_alive() { queue_->keep_alive(); }
  void add_late(int peer, double seconds) { late_[static_cast<size_t>(peer)] += seconds; }
  /// For make_group.
  CommMembers group_of(const std::vector<int>& members, const std::string& name) const;

 private:
  CommEvent start_all_reduce(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) final;
  CommEvent start_reduce_scatter(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) final;
  CommEvent start_all_gather(const Tensor& out, const Tensor& in) final;
  CommEvent start_broadcast(const Tensor& tensor, int root) final;
  CommEvent start_send(const Tensor& tensor, int to) final;
  CommEvent start_recv(const Tensor& tensor, int from) final;
  CommEvent start_barrier() final;

  CallMark next_mark(CallMark::Kind kind, const Tensor& tensor, int root, ReduceOp op);
  CommEvent start(const CallMark& mark, std::vector<Tensor> tensors, std::function<void()> work);
  void execute(const CallMark& mark, const std::function<void()>& work);

  const std::shared_ptr<CommQueue> queue_;
  const std::shared_ptr<Rendezvous> rendezvous_;
  const std::string host_address_;
  int seat_ = -1;
  std::atomic<bool> failed_{false};
  std::atomic<int> pending_{0};
  CallMark current_;          // of whoever does the work
  bool working_ = false;      // likewise
  std::vector<double> late_;  // likewise, since the call began
  mutable std::mutex mutex_;  // of what follows
  std::string failure_;
  CallMark last_;
  uint64_t collectives_ = 0, messages_ = 0;
  CommStatistics statistics_;
};

}  // namespace ondol
