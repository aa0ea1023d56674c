// Collective operations between the processes of a job.
//
//   std::unique_ptr<Communicator> world = make_communicator(info, rendezvous, {});
//   CommEvent sum = world->all_reduce(gradients);       // starts; gradients must be left alone
//   ... other work ...
//   sum.wait();                                         // gradients hold the sum over the ranks
//   std::unique_ptr<Communicator> row = world->split(world->rank() / 2);    // ranks {0, 1}, {2, 3}, ...
//
// Every call is asynchronous and returns an event. All ranks of a communicator make the same calls in the same order;
// the work is done in that order, on the CPU by one thread of the process (that of the communicator and all that were
// split from it; a thread that waits for an event lends a hand), on a GPU by a stream of the communicator. Tensors are
// contiguous, on the communicator's device, and untouched between call and wait (the communicator keeps their memory).
// Their shapes do not matter, only their counts of elements. An empty tensor is fine.
//
// Sums. A deterministic communicator (the default) adds in one balanced binary tree over the rank: the sums of ranks
// (0, 1), (2, 3), ... first, then those of pairs, and so on; what is missing on the right when the count is no power of
// two is left out. Sums over 2^k micro-batches for each rank, added in the same tree, thus give the same bytes for
// every number of ranks. f32 and f64 are added as such, results below the smallest normal number becoming 0 as in every
// operation of the library; bf16 is added in f32 and rounded to bf16 by every addition; i64 wraps around.
// `deterministic = false` leaves the order to the transport's own reduction.
//
// Failures. Whoever waits for a rank that is dead, silent or late gets an Error like
//   [all_reduce #12, 4096 bytes] rank 3 has died (rank 1 was waiting for it)
// and so do all other ranks. After that, calls and waits for what had not ended throw the same error; the communicator
// can only be destroyed.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ondol/base/device.h>
#include <ondol/distributed/rank_info.h>
#include <ondol/distributed/rendezvous.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

/// The end of a collective. Copies stand for the same one; an empty event has happened.
class CommEvent {
 public:
  class State {
   public:
    virtual ~State() = default;
    virtual void wait() = 0;
    virtual void synchronize() = 0;
    virtual bool done() = 0;
  };

  CommEvent() = default;
  explicit CommEvent(std::shared_ptr<State> state) : state_(std::move(state)) {}

  /// On the CPU returns when the collective is done; on a GPU makes what is started on the device after this wait for
  /// it and returns at once. Throws what went wrong.
  void wait() const {
    if (state_) state_->wait();
  }
  /// The host waits, on a GPU too.
  void synchronize() const {
    if (state_) state_->synchronize();
  }
  /// Whether it has ended, well or not.
  bool done() const { return !state_ || state_->done(); }

 private:
  std::shared_ptr<State> state_;
};

enum class ReduceOp { sum, max };

struct ReduceOptions {
  ReduceOp op = ReduceOp::sum;
  /// Only ranks 0 .. contributors-1 have something to add (the same number on all ranks); what the others pass is not
  /// looked at, but they receive the result. -1: all; 0: the result is 0. Nothing is added for a rank without a
  /// contribution, not even zeros.
  int contributors = -1;
};

enum class CommTransport { automatic, single, shm, tcp, mpi, nccl };

/// "auto", "single", "shm", "tcp", "mpi", "nccl". Throws UsageError.
CommTransport comm_transport_from_name(const std::string& name);
const char* comm_transport_name(CommTransport transport);

/// Whether this build has it.
bool comm_transport_available(CommTransport transport);

struct CommunicatorOptions {
  /// automatic: NCCL for GPUs; shared memory when all ranks are on one host; else MPI when the processes were started
  /// by it and the build has it, else TCP.
  CommTransport transport = CommTransport::automatic;
  Device device;  // of the tensors
  bool deterministic = true;
  /// A rank that lives, but does not make the call that others wait in.
  std::chrono::milliseconds collective_timeout = std::chrono::minutes(10);
  /// A rank that gives no sign of life (stopped, its host gone).
  std::chrono::milliseconds silence_timeout = std::chrono::seconds(20);
  /// All ranks must have come together within this time.
  std::chrono::milliseconds connect_timeout = std::chrono::minutes(2);
  /// Prefix of the keys at the rendezvous; another one for each communicator that is made of one rendezvous.
  std::string name = "world";
};

struct CommStatistics {
  uint64_t collectives = 0;
  uint64_t bytes = 0;                // of the tensors that were passed in
  double busy_seconds = 0;           // spent in collectives, waiting for others included
  double exposed_seconds = 0;        // spent by callers in wait() and synchronize()
  std::vector<double> late_seconds;  // by rank: time that this rank has waited for it (CPU)
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(world_ranks_.size()); }
  /// The rank in the job of a rank of this communicator; error messages name the former.
  int world_rank(int rank) const { return world_ranks_[static_cast<size_t>(rank)]; }
  const std::vector<int>& world_ranks() const { return world_ranks_; }
  const CommunicatorOptions& options() const { return options_; }
  virtual CommTransport transport() const = 0;

  /// out (n) = the reduction of in (n) over the ranks. Types: sum f32, f64, bf16, i64; max these and u8. `out` and `in`
  /// are the same or do not overlap.
  CommEvent all_reduce(const Tensor& out, const Tensor& in, const ReduceOptions& reduce = {});
  CommEvent all_reduce(const Tensor& tensor, const ReduceOptions& reduce = {}) {
    return all_reduce(tensor, tensor, reduce);
  }
  /// out (n) = elements [rank*n, (rank+1)*n) of the reduction of in (size*n). `out` may be that part of `in`, whose
  /// other parts are then undefined.
  CommEvent reduce_scatter(const Tensor& out, const Tensor& in, const ReduceOptions& reduce = {});
  /// out (size*n) = in (n) of all ranks, one after the other, of any type. `in` may be its own part of `out`.
  CommEvent all_gather(const Tensor& out, const Tensor& in);
  /// The values of rank `root` for all.
  CommEvent broadcast(const Tensor& tensor, int root);
  /// Pairs of send and recv with the same byte count; a send may wait for its recv, so that two ranks that send to each
  /// other must not both send first. Only these two ranks make the call.
  CommEvent send(const Tensor& tensor, int to);
  CommEvent recv(const Tensor& tensor, int from);
  /// Done when all ranks have called it and have done all collectives before it.
  CommEvent barrier();

  /// Collective: a communicator of the ranks that pass the same color, in their order, with the same options. A rank
  /// that passes a negative color gets none (null). This one must outlive it.
  std::unique_ptr<Communicator> split(int color);

  /// From any thread: all waits of this communicator end with an error that gives the reason, on all ranks.
  virtual void abort(const std::string& reason) = 0;

  /// What is being done or was done last, "all_reduce #12, 4096 bytes"; "" before the first.
  virtual std::string last_collective() const = 0;
  virtual CommStatistics statistics() const = 0;
  /// What has ended this communicator, noticed without a call too; "" while it is well.
  virtual std::string failure() const = 0;

 protected:
  Communicator(int rank, std::vector<int> world_ranks, const CommunicatorOptions& options)
      : rank_(rank), world_ranks_(std::move(world_ranks)), options_(options) {}

  /// The arguments have been checked; `contributors` is a number of ranks.
  virtual CommEvent start_all_reduce(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) = 0;
  virtual CommEvent start_reduce_scatter(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) = 0;
  virtual CommEvent start_all_gather(const Tensor& out, const Tensor& in) = 0;
  virtual CommEvent start_broadcast(const Tensor& tensor, int root) = 0;
  virtual CommEvent start_send(const Tensor& tensor, int to) = 0;
  virtual CommEvent start_recv(const Tensor& tensor, int from) = 0;
  virtual CommEvent start_barrier() = 0;
  /// The ranks `members` of this communicator (this one among them, rising) become one of their own.
  virtual std::unique_ptr<Communicator> make_group(const std::vector<int>& members, const std::string& name) = 0;

 private:
  const int rank_;
  const std::vector<int> world_ranks_;
  const CommunicatorOptions options_;
  int splits_ = 0;
};

/// Collective over all ranks of the job. Throws Error naming the ranks that did not come, UsageError when the transport
/// is missing in this build or cannot serve the ranks.
std::unique_ptr<Communicator> make_communicator(const RankInfo& info, std::shared_ptr<Rendezvous> rendezvous,
                                                const CommunicatorOptions& options = {});

}  // namespace ondol
