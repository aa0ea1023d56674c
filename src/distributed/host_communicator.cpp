#include "distributed/host_communicator.h"

#include <algorithm>
#include <utility>

namespace ondol {

std::string to_string(const CallMark& mark) {
  if (mark.number == 0) return "";
  static constexpr const char* kNames[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast",
                                           "barrier",    "send",           "recv"};
  const char* const name = mark.kind < std::size(kNames) ? kNames[mark.kind] : "unknown call";
  std::string peer;
  if (mark.kind == CallMark::send) peer = concat(" to rank ", mark.root);
  if (mark.kind == CallMark::recv) peer = concat(" from rank ", mark.root);
  return concat(name, peer, " #", mark.number, ", ", mark.bytes, " bytes");
}

bool Patience::over() {
  const Clock::time_point now = Clock::now();
  spent_ += std::min<std::chrono::nanoseconds>(now - last_, std::chrono::seconds(1));
  last_ = now;
  return spent_ > limit_;
}

HostCommunicator::HostCommunicator(const CommMembers& members)
    : Communicator(members.rank, members.world_ranks, members.options),
      queue_(members.queue),
      rendezvous_(members.rendezvous),
      host_address_(members.host_address),
      late_(static_cast<size_t>(size()), 0.0) {
  statistics_.late_seconds.resize(static_cast<size_t>(size()), 0.0);
}

CommMembers HostCommunicator::group_of(const std::vector<int>& members, const std::string& name) const {
  CommMembers group{.rank = 0,
                    .world_ranks = {},
                    .rendezvous = rendezvous_,
                    .options = options(),
                    .queue = queue_,
                    .host_address = host_address_};
  group.options.name = name;
  for (const int member : members) {
    if (member < rank()) ++group.rank;
    group.world_ranks.push_back(world_rank(member));
  }
  return group;
}

void HostCommunicator::open() {
  seat_ = queue_->watch([this] { sign_of_life(); });
}

void HostCommunicator::close() {
  if (pending_.load() > 0)
    fail(concat("rank ", world_rank(rank()), " has left while ", last_collective(), " was under way"), true);
  queue_->add([this] { farewell(); }, {}, [](double) {}).wait();
  queue_->unwatch(seat_);
}

void HostCommunicator::fail(const std::string& text, bool tell) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) return;
    failure_ = text;
    failed_.store(true, std::memory_order_release);
  }
  if (tell) tell_failure(text);
}

void HostCommunicator::check_failed() const {
  if (!failed()) return;
  const std::lock_guard lock(mutex_);
  throw Error(failure_);
}

void HostCommunicator::abort(const std::string& reason) {
  fail(concat("rank ", world_rank(rank()), " aborted: ", reason), true);
}

std::string HostCommunicator::last_collective() const {
  const std::lock_guard lock(mutex_);
  return to_string(last_);
}

std::string HostCommunicator::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

CommStatistics HostCommunicator::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

std::string HostCommunicator::waiting_for(const std::string& what) const {
  if (working_) return concat("[", to_string(current_), "] ", what, " (rank ", world_rank(rank()), " was waiting)");
  const std::string last = to_string(current_);
  return concat(last.empty() ? "" : "[after " + last + "] ", what, " (noticed by rank ", world_rank(rank()), ")");
}

std::string HostCommunicator::differs(int peer, const CallMark& theirs) const {
  CallMark same_type = theirs;
  same_type.type = current_.type;
  same_type.root = current_.root;
  const char* const how = same_type == current_ ? " of another type, operation, root or number of contributors" : "";
  return concat("[", to_string(current_), "] rank ", world_rank(peer), " calls ", to_string(theirs), how,
                ", but all ranks must make the same calls in the same order (rank ", world_rank(rank()), " found it)");
}

void HostCommunicator::throw_late(int peer) const {
  throw Error(waiting_for(concat("rank ", world_rank(peer), " lives, but did not come within ",
                                 std::chrono::duration<double>(options().collective_timeout).count(), " s")));
}

CallMark HostCommunicator::next_mark(CallMark::Kind kind, const Tensor& tensor, int root, ReduceOp op) {
  CallMark mark{.kind = kind, .root = root};
  if (tensor.defined()) mark.bytes = static_cast<uint64_t>(tensor.numel()) * dtype_size(tensor.dtype());
  if (kind == CallMark::all_reduce || kind == CallMark::reduce_scatter) {
    mark.type = static_cast<uint32_t>(tensor.dtype()) << 8 | static_cast<uint32_t>(op);
  }
  const bool message = kind == CallMark::send || kind == CallMark::recv;
  const std::lock_guard lock(mutex_);
  mark.number = message ? ++messages_ : ++collectives_;
  return mark;
}

CommEvent HostCommunicator::start(const CallMark& mark, std::vector<Tensor> tensors, std::function<void()> work) {
  check_failed();
  pending_.fetch_add(1);
  return queue_->add([this, mark, work = std::move(work)] { execute(mark, work); }, std::move(tensors),
                     [this](double seconds) {
                       const std::lock_guard lock(mutex_);
                       statistics_.exposed_seconds += seconds;
                     });
}

void HostCommunicator::execute(const CallMark& mark, const std::function<void()>& work) {
  struct Ended {
    HostCommunicator& owner;
    ~Ended() {
      owner.working_ = false;
      owner.pending_.fetch_sub(1);
    }
  } const ended{*this};
  check_failed();
  current_ = mark;
  working_ = true;
  {
    const std::lock_guard lock(mutex_);
    last_ = mark;
  }
  std::fill(late_.begin(), late_.end(), 0.0);
  const auto start = std::chrono::steady_clock::now();
  try {
    work();
  } catch (const std::exception& error) {
    fail(error.what(), true);
    check_failed();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::lock_guard lock(mutex_);
  ++statistics_.collectives;
  statistics_.bytes += mark.bytes;
  statistics_.busy_seconds += seconds;
  for (size_t r = 0; r < late_.size(); ++r) statistics_.late_seconds[r] += late_[r];
}

CommEvent HostCommunicator::start_all_reduce(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) {
  return start(next_mark(CallMark::all_reduce, in, reduce.contributors, reduce.op), {out, in},
               [this, o = out.raw(), i = in.raw(), n = in.numel(), dtype = in.dtype(), reduce] {
                 do_all_reduce(o, i, n, dtype, reduce);
               });
}

CommEvent HostCommunicator::start_reduce_scatter(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) {
  return start(next_mark(CallMark::reduce_scatter, in, reduce.contributors, reduce.op), {out, in},
               [this, o = out.raw(), i = in.raw(), n = out.numel(), dtype = in.dtype(), reduce] {
                 do_reduce_scatter(o, i, n, dtype, reduce);
               });
}

CommEvent HostCommunicator::start_all_gather(const Tensor& out, const Tensor& in) {
  const CallMark mark = next_mark(CallMark::all_gather, in, 0, ReduceOp::sum);
  return start(mark, {out, in}, [this, o = out.raw(), i = in.raw(), mark] { do_all_gather(o, i, mark.bytes); });
}

CommEvent HostCommunicator::start_broadcast(const Tensor& tensor, int root) {
  const CallMark mark = next_mark(CallMark::broadcast, tensor, root, ReduceOp::sum);
  return start(mark, {tensor}, [this, data = tensor.raw(), mark] { do_broadcast(data, mark.bytes, mark.root); });
}

CommEvent HostCommunicator::start_send(const Tensor& tensor, int to) {
  const CallMark mark = next_mark(CallMark::send, tensor, world_rank(to), ReduceOp::sum);
  return start(mark, {tensor}, [this, data = tensor.raw(), bytes = mark.bytes, to] { do_send(data, bytes, to); });
}

CommEvent HostCommunicator::start_recv(const Tensor& tensor, int from) {
  const CallMark mark = next_mark(CallMark::recv, tensor, world_rank(from), ReduceOp::sum);
  return start(mark, {tensor}, [this, data = tensor.raw(), bytes = mark.bytes, from] { do_recv(data, bytes, from); });
}

CommEvent HostCommunicator::start_barrier() {
  return start(next_mark(CallMark::barrier, Tensor(), 0, ReduceOp::sum), {}, [this] { do_barrier(); });
}

}  // namespace ondol
