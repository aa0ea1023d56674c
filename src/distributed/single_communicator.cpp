#include <mutex>

#include "distributed/transports.h"

namespace ondol {

namespace {

/// Everything is done when a call returns, or follows in the order of the device.
class SingleCommunicator final : public Communicator {
 public:
  explicit SingleCommunicator(const CommMembers& members) : Communicator(0, members.world_ranks, members.options) {}

  CommTransport transport() const override { return CommTransport::single; }
  void abort(const std::string& reason) override {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = concat("rank ", world_rank(0), " aborted: ", reason);
  }
  std::string last_collective() const override {
    const std::lock_guard lock(mutex_);
    return last_;
  }
  std::string failure() const override {
    const std::lock_guard lock(mutex_);
    return failure_;
  }
  CommStatistics statistics() const override {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

 private:
  void begin(const char* call, const Tensor& tensor) {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) throw Error(failure_);
    const size_t bytes = tensor.defined() ? static_cast<size_t>(tensor.numel()) * dtype_size(tensor.dtype()) : 0;
    last_ = concat(call, " #", ++statistics_.collectives, ", ", bytes, " bytes");
    statistics_.bytes += bytes;
  }
  static void copy(const Tensor& out, const Tensor& in) {
    if (out.raw() != in.raw() && in.numel() > 0) out.reshape({in.numel()}).copy_from(in.reshape({in.numel()}));
  }
  static CommEvent reduce_into(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) {
    if (reduce.contributors == 0) {
      out.zero();
    } else {
      copy(out, in);
    }
    return {};
  }

  CommEvent start_all_reduce(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) override {
    begin("all_reduce", in);
    return reduce_into(out, in, reduce);
  }
  CommEvent start_reduce_scatter(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) override {
    begin("reduce_scatter", in);
    return reduce_into(out, in, reduce);
  }
  CommEvent start_all_gather(const Tensor& out, const Tensor& in) override {
    begin("all_gather", in);
    copy(out, in);
    return {};
  }
  CommEvent start_broadcast(const Tensor& tensor, int) override {
    begin("broadcast", tensor);
    return {};
  }
  CommEvent start_send(const Tensor&, int) override { throw_error("[send] there is no other rank"); }
  CommEvent start_recv(const Tensor&, int) override { throw_error("[recv] there is no other rank"); }
  CommEvent start_barrier() override {
    begin("barrier", Tensor());
    return {};
  }
  std::unique_ptr<Communicator> make_group(const std::vector<int>&, const std::string& name) override {
    CommMembers group{.world_ranks = world_ranks(), .options = options()};
    group.options.name = name;
    return make_single_communicator(group);
  }

  mutable std::mutex mutex_;
  std::string failure_, last_;
  CommStatistics statistics_{.late_seconds = {0.0}};
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator(const CommMembers& members) {
  return std::make_unique<SingleCommunicator>(members);
}

}  // namespace ondol
