// One GPU for each rank, over NCCL, on a stream of the communicator.
//
// Deterministic sums of f32 and bf16: NCCL moves the parts (grouped sends and receives, recursive halving with
// neighbours first) and our own kernels add them, so that every element passes through the tree of sums over the ranks;
// what follows is NCCL's all-gather, or halving backwards. Sums of i64 and maxima do not depend on an order: NCCL's
// own. `deterministic = false`: NCCL's own for all.
//
// A kernel of NCCL waits for ever for a rank that is gone. Beside the GPUs, the processes therefore have a communicator
// of the CPU, which notices that; a thread watches it and the events, and aborts NCCL's communicator.
#include <nccl.h>

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "backend/backend.h"
#include "distributed/host_communicator.h"
#include "distributed/parts.h"
#include "distributed/transports.h"

namespace ondol {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kWatchInterval = std::chrono::milliseconds(100);
/// Ranks that wait for the same call give up one after the other within this time.
constexpr auto kLateness = std::chrono::seconds(2);
/// Of a tensor at a time: what arrives needs as much memory.
constexpr size_t kPieceBytes = 64u << 20;

void check(cudaError_t status, const char* what) {
  ONDOL_CHECK(status == cudaSuccess, "[", what, "] CUDA: ", cudaGetErrorString(status));
}
void check(ncclResult_t status, const char* what) {
  ONDOL_CHECK(status == ncclSuccess || status == ncclInProgress, "[", what, "] NCCL: ", ncclGetErrorString(status));
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i64:
      return ncclInt64;
    default:
      return ncclUint8;
  }
}

size_t bytes_of(const Tensor& tensor) { return static_cast<size_t>(tensor.numel()) * dtype_size(tensor.dtype()); }

/// A call that has been started; its tensors live until the device is done with them.
struct Flight final : CommEvent::State {
  Flight(class NcclCommunicator& communicator, const std::shared_ptr<bool>& life) : owner(communicator), alive(life) {}
  ~Flight() override;
  void wait() override;
  void synchronize() override;
  bool done() override;

  NcclCommunicator& owner;
  const std::weak_ptr<bool> alive;  // the owner; nothing is under way when it has gone
  CallMark mark;
  cudaEvent_t ended = nullptr;
  std::vector<Tensor> tensors;
  Clock::time_point start = Clock::now();
};

class NcclCommunicator final : public Communicator {
 public:
  explicit NcclCommunicator(const CommMembers& members)
      : Communicator(members.rank, members.world_ranks, members.options) {
    members_ = members;
    if (size() > 1) guard_ = make_guard();
    select();
    // Not blocking: then a rank that does not come is noticed, here and later.
    int low = 0, high = 0;
    check(cudaDeviceGetStreamPriorityRange(&low, &high), "communication stream");
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, high), "communication stream");
    check(cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), "communication event");
    connect();
    watcher_ = std::thread([this] { watch(); });
  }
  ~NcclCommunicator() override {
    // What is under way ends, or the watcher ends it.
    std::unique_lock lock(mutex_);
    while (!flights_.empty() && !failed_.load()) stopping_.wait_for(lock, kWatchInterval / 10);
    stop_ = true;
    lock.unlock();
    stopping_.notify_all();
    watcher_.join();
    select_quietly();
    if (failed_.load()) {
      abort_nccl();
    } else {
      ncclCommDestroy(nccl_);
    }
    flights_.clear();
    cudaEventDestroy(ready_);
    cudaStreamDestroy(stream_);
  }

  CommTransport transport() const override { return CommTransport::nccl; }

  void abort(const std::string& reason) override {
    fail(concat("rank ", world_rank(rank()), " aborted: ", reason));
    if (guard_) guard_->abort(reason);
    abort_nccl();
  }

  std::string last_collective() const override {
    const std::lock_guard lock(mutex_);
    return to_string(last_);
  }
  std::string failure() const override {
    const std::lock_guard lock(mutex_);
    return failure_;
  }
  /// How long the device works is not known here: busy_seconds is the host's time in calls that wait.
  CommStatistics statistics() const override {
    const std::lock_guard lock(mutex_);
    CommStatistics statistics = statistics_;
    statistics.late_seconds.resize(static_cast<size_t>(size()), 0.0);
    return statistics;
  }

  // For events.
  void check_failed() const {
    if (!failed_.load()) return;
    const std::lock_guard lock(mutex_);
    throw Error(failure_);
  }
  void wait_on_device(const Flight& flight) const {
    check_failed();
    select();
    check(cudaStreamWaitEvent(compute_stream(), flight.ended, 0), "wait");
  }
  void wait_on_host(const Flight& flight) {
    const Clock::time_point start = Clock::now();
    select();
    while (!is_done(flight)) {
      check_failed();
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    check_failed();
    const std::lock_guard lock(mutex_);
    statistics_.exposed_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  }
  bool ended(const Flight& flight) const {
    if (failed_.load()) return true;
    select();
    return is_done(flight);
  }

 private:
  // ---- life ----

  static bool is_done(const Flight& flight) { return cudaEventQuery(flight.ended) == cudaSuccess; }
  void select() const { check(cudaSetDevice(options().device.index), "select device"); }
  void select_quietly() const { (void)cudaSetDevice(options().device.index); }
  cudaStream_t compute_stream() const { return static_cast<cudaStream_t>(current_stream(options().device)); }

  /// Of the same processes, on the CPU.
  std::unique_ptr<Communicator> make_guard() const {
    CommMembers members = members_;
    members.options.device = {};
    members.options.name += "/guard";
    members.queue = CommQueue::start();
    return make_tcp_communicator(members);
  }

  void connect() {
    ncclUniqueId id{};
    const std::string key = options().name + "/nccl";
    if (rank() == 0) {
      check(ncclGetUniqueId(&id), "NCCL id");
      members_.rendezvous->set(key, std::string(id.internal, sizeof(id.internal)));
    } else {
      const std::string text = members_.rendezvous->get(key, options().connect_timeout);
      ONDOL_CHECK(text.size() == sizeof(id.internal), "rank 0 has left an NCCL id of ", text.size(), " bytes");
      std::memcpy(id.internal, text.data(), text.size());
    }
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(ncclCommInitRankConfig(&nccl_, size(), id, rank(), &config), "NCCL start");
    settle("NCCL start", options().connect_timeout);
  }

  /// Waits while the host's part of what was started is in progress.
  void settle(const char* what, std::chrono::milliseconds timeout) {
    Patience patience(timeout);
    ncclResult_t status = ncclInProgress;
    for (;;) {
      check(ncclCommGetAsyncError(nccl_, &status), what);
      check(status, what);
      if (status == ncclSuccess) return;
      check_failed();
      ONDOL_CHECK(!patience.over(), "[", what, "] not all ranks came within ", timeout.count(), " ms");
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  void fail(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (!failure_.empty()) return;
    failure_ = text;
    failed_.store(true);
  }
  void abort_nccl() {
    if (!aborted_.exchange(true)) ncclCommAbort(nccl_);
  }

  /// Who waits in vain says so at the rendezvous: the others are late.
  std::string late_ranks() const {
    const auto key = [&](int r) { return concat(options().name, "/waits/", r); };
    const Clock::time_point end = Clock::now() + kLateness;
    std::string late;
    try {
      members_.rendezvous->set(key(rank()), "");
    } catch (const Error&) {
      return "not done in time";
    }
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      try {
        members_.rendezvous->get(key(r),
                                 std::max(std::chrono::milliseconds(10),
                                          std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now())));
      } catch (const Error&) {
        late += concat(late.empty() ? "rank " : ", ", world_rank(r));
      }
    }
    const double limit = std::chrono::duration<double>(options().collective_timeout).count();
    if (late.empty()) return concat("all ranks came, but it was not done within ", limit, " s");
    return concat(late, " lives, but did not come within ", limit, " s (rank ", world_rank(rank()), " was waiting)");
  }

  /// Looks after the other processes and the calls that are under way.
  void watch() {
    select_quietly();
    std::unique_lock lock(mutex_);
    std::shared_ptr<Flight> oldest;
    Patience patience(options().collective_timeout);
    while (!stop_) {
      stopping_.wait_for(lock, kWatchInterval);
      if (stop_ || failed_.load()) continue;
      while (!flights_.empty() && is_done(*flights_.front())) flights_.pop_front();
      const std::shared_ptr<Flight> front = flights_.empty() ? nullptr : flights_.front();
      lock.unlock();
      std::string trouble = guard_ ? guard_->failure() : "";
      if (front != oldest) {
        oldest = front;
        patience = Patience(options().collective_timeout);
      }
      ncclResult_t status = ncclSuccess;
      if (trouble.empty() && ncclCommGetAsyncError(nccl_, &status) == ncclSuccess && status != ncclSuccess &&
          status != ncclInProgress) {
        trouble = concat("NCCL on rank ", world_rank(rank()), ": ", ncclGetErrorString(status));
      }
      if (trouble.empty() && oldest && patience.over()) trouble = late_ranks();
      if (!trouble.empty()) {
        fail(oldest ? concat("[", to_string(oldest->mark), "] ", trouble) : trouble);
        if (guard_) guard_->abort(failure());
        abort_nccl();
      }
      lock.lock();
    }
  }

  // ---- calls ----

  /// `start` puts work on the stream; it begins when what was started on the device before this is done.
  template <class Start>
  CommEvent begin(CallMark::Kind kind, const Tensor& counted, std::vector<Tensor> tensors, const Start& start) {
    check_failed();
    select();
    auto flight = std::make_shared<Flight>(*this, life_);
    flight->tensors = std::move(tensors);
    flight->mark = {.kind = kind, .bytes = counted.defined() ? bytes_of(counted) : 0};
    {
      const std::lock_guard lock(mutex_);
      flight->mark.number = ++statistics_.collectives;
      statistics_.bytes += flight->mark.bytes;
      last_ = flight->mark;
    }
    check(cudaEventCreateWithFlags(&flight->ended, cudaEventDisableTiming), "communication event");
    flight_ = flight.get();
    check(cudaEventRecord(ready_, compute_stream()), "communication");
    check(cudaStreamWaitEvent(stream_, ready_, 0), "communication");
    start();
    settle(to_string(flight->mark).c_str(), options().collective_timeout);
    check(cudaEventRecord(flight->ended, stream_), "communication");
    const std::lock_guard lock(mutex_);
    flights_.push_back(flight);
    return CommEvent(flight);
  }

  /// Memory for what arrives. Work before this on the stream may still use what it was before: that lives as long.
  std::byte* scratch(size_t bytes) {
    if (!scratch_.defined() || bytes_of(scratch_) < bytes) {
      if (scratch_.defined()) flight_->tensors.push_back(scratch_);
      scratch_ = Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, options().device);
      // A block that was given back may still be in use by work that was started on the device before.
      check(cudaEventRecord(ready_, compute_stream()), "communication");
      check(cudaStreamWaitEvent(stream_, ready_, 0), "communication");
    }
    return static_cast<std::byte*>(scratch_.raw());
  }

  void copy(void* to, const void* from, size_t bytes) {
    if (bytes > 0 && to != from) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copy");
  }
  /// a += b
  void add(std::byte* a, const std::byte* b, size_t bytes, DType dtype, bool b_first) {
    if (bytes == 0) return;
    const int64_t count = static_cast<int64_t>(bytes / dtype_size(dtype));
    BinaryArgs args{b_first ? b : a, b_first ? a : b, a, BinaryKind::add, 1, {count}, {1}, {1}};
    kernel_table(options().device).binary.get(dtype)(args, stream_);
  }

  void send_bytes(const PartBytes& part, int to) {
    if (part.size > 0) check(ncclSend(part.data, part.size, ncclUint8, to, nccl_, stream_), "send");
  }
  void receive_bytes(const PartBytes& part, int from) {
    if (part.size > 0) check(ncclRecv(part.data, part.size, ncclUint8, from, nccl_, stream_), "receive");
  }
  template <class Messages>
  void group(const Messages& messages) {
    check(ncclGroupStart(), "group");
    messages();
    check(ncclGroupEnd(), "group");
    settle("group", options().collective_timeout);
  }

  void reduce_by_halving(const Parts& parts, DType dtype, int contributors) {
    for (int bit = 0; 1 << bit < size(); ++bit) {
      const int partner = rank() ^ 1 << bit;
      const bool mine = (rank() >> bit << bit) < contributors, theirs = (partner >> bit << bit) < contributors;
      const std::vector<PartBytes> kept = parts.places(bit + 1, rank());
      std::vector<PartBytes> arriving = kept;
      if (mine && theirs) {
        size_t bytes = 0;
        for (const PartBytes& place : kept) bytes += place.size;
        std::byte* next = scratch(bytes);
        for (PartBytes& place : arriving) {
          place.data = next;
          next += place.size;
        }
      }
      group([&] {
        for (const PartBytes& place : parts.places(bit + 1, partner)) {
          if (mine) send_bytes(place, partner);
        }
        for (const PartBytes& place : arriving) {
          if (theirs) receive_bytes(place, partner);
        }
      });
      for (size_t i = 0; mine && theirs && i < kept.size(); ++i) {
        add(kept[i].data, arriving[i].data, kept[i].size, dtype, partner < rank());
      }
    }
  }

  /// Sums sources [begin, end) in their tree into the first of them.
  void add_tree(const std::vector<std::byte*>& sources, size_t begin, size_t end, size_t bytes, DType dtype) {
    if (end - begin < 2) return;
    const size_t middle = begin + std::bit_floor(end - begin - 1);
    add_tree(sources, begin, middle, bytes, dtype);
    add_tree(sources, middle, end, bytes, dtype);
    add(sources[begin], sources[middle], bytes, dtype, false);
  }

  void reduce_by_exchange(const Parts& parts, DType dtype, int contributors) {
    const PartBytes own = parts.of(rank());
    std::byte* const arrived = scratch(std::max<size_t>(1, own.size * static_cast<size_t>(contributors)));
    std::vector<std::byte*> sources;
    group([&] {
      for (int r = 0; r < contributors; ++r) {
        sources.push_back(r == rank() ? own.data : arrived + static_cast<size_t>(r) * own.size);
        if (r != rank()) receive_bytes({sources.back(), own.size}, r);
      }
      for (int r = 0; r < size() && rank() < contributors; ++r) {
        if (r != rank()) send_bytes(parts.of(r), r);
      }
    });
    add_tree(sources, 0, sources.size(), own.size, dtype);
    copy(own.data, sources[0], own.size);
  }

  /// Afterwards the part of this rank is the sum; the others are undefined.
  void reduce_parts(const Parts& parts, DType dtype, int contributors) {
    if (is_power_of_two(size())) return reduce_by_halving(parts, dtype, contributors);
    reduce_by_exchange(parts, dtype, contributors);
  }

  void gather_parts(const Parts& parts) {
    if (is_power_of_two(size())) {
      for (int bit = std::bit_width(static_cast<unsigned>(size())) - 2; bit >= 0; --bit) {
        const int partner = rank() ^ 1 << bit;
        group([&] {
          for (const PartBytes& place : parts.places(bit + 1, rank())) send_bytes(place, partner);
          for (const PartBytes& place : parts.places(bit + 1, partner)) receive_bytes(place, partner);
        });
      }
      return;
    }
    group([&] {
      for (int r = 0; r < size(); ++r) {
        if (r == rank()) continue;
        send_bytes(parts.of(rank()), r);
        receive_bytes(parts.of(r), r);
      }
    });
  }

  /// Whether our own kernels add.
  bool in_tree(DType dtype, const ReduceOptions& reduce) const {
    const bool own = options().deterministic && reduce.op == ReduceOp::sum && dtype != DType::i64;
    if (own && kernel_table(options().device).binary.get(dtype) == nullptr) {
      throw_missing_kernel("binary", options().device, dtype);
    }
    return own;
  }
  /// What a reduction of NCCL takes from this rank: zeros when it has nothing to add.
  const void* contribution(const Tensor& in, const ReduceOptions& reduce) {
    if (rank() < reduce.contributors) return in.raw();
    ONDOL_CHECK(reduce.op == ReduceOp::sum, "[reduce] NCCL has no maximum over some of the ranks only");
    std::byte* const zeros = scratch(std::max<size_t>(1, bytes_of(in)));
    check(cudaMemsetAsync(zeros, 0, bytes_of(in), stream_), "zeros");
    return zeros;
  }
  static ncclRedOp_t nccl_op(const ReduceOptions& reduce) { return reduce.op == ReduceOp::sum ? ncclSum : ncclMax; }

  CommEvent start_all_reduce(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) override {
    const DType dtype = in.dtype();
    const size_t element = dtype_size(dtype), bytes = bytes_of(in);
    const bool own_sum = in_tree(dtype, reduce);
    return begin(CallMark::all_reduce, in, {out, in}, [&] {
      if (reduce.contributors == 0) return check(cudaMemsetAsync(out.raw(), 0, bytes, stream_), "zeros");
      if (!own_sum) {
        return check(ncclAllReduce(contribution(in, reduce), out.raw(), static_cast<size_t>(in.numel()),
                                   nccl_type(dtype), nccl_op(reduce), nccl_, stream_),
                     "all_reduce");
      }
      for (size_t done = 0; done < bytes; done += kPieceBytes) {
        const size_t width = std::min(kPieceBytes, bytes - done);
        const Parts parts =
            cut_for_reduction(static_cast<std::byte*>(out.raw()) + done, width / element, element, size());
        if (rank() < reduce.contributors) copy(parts.base, static_cast<const std::byte*>(in.raw()) + done, width);
        reduce_parts(parts, dtype, reduce.contributors);
        gather_parts(parts);
      }
    });
  }

  CommEvent start_reduce_scatter(const Tensor& out, const Tensor& in, const ReduceOptions& reduce) override {
    const DType dtype = in.dtype();
    const size_t element = dtype_size(dtype), slice = bytes_of(out), ranks = static_cast<size_t>(size());
    const size_t step = std::max<size_t>(1, kPieceBytes / ranks / element) * element;
    const bool own_sum = in_tree(dtype, reduce);
    return begin(CallMark::reduce_scatter, in, {out, in}, [&] {
      if (reduce.contributors == 0) return check(cudaMemsetAsync(out.raw(), 0, slice, stream_), "zeros");
      if (!own_sum) {
        return check(ncclReduceScatter(contribution(in, reduce), out.raw(), static_cast<size_t>(out.numel()),
                                       nccl_type(dtype), nccl_op(reduce), nccl_, stream_),
                     "reduce_scatter");
      }
      // The input is left as it is: the tree grows in a copy.
      const Tensor work =
          Tensor::empty({static_cast<int64_t>(std::min(step, slice) * ranks)}, DType::u8, options().device);
      flight_->tensors.push_back(work);
      check(cudaEventRecord(ready_, compute_stream()), "communication");
      check(cudaStreamWaitEvent(stream_, ready_, 0), "communication");
      std::byte* const base = static_cast<std::byte*>(work.raw());
      for (size_t done = 0; done < slice; done += step) {
        const size_t width = std::min(step, slice - done);
        const Parts parts = cut_slices(base, width, 0, width, size());
        for (size_t r = 0; r < ranks && rank() < reduce.contributors; ++r) {
          copy(base + r * width, static_cast<const std::byte*>(in.raw()) + r * slice + done, width);
        }
        reduce_parts(parts, dtype, reduce.contributors);
        copy(static_cast<std::byte*>(out.raw()) + done, parts.of(rank()).data, width);
      }
    });
  }

  CommEvent start_all_gather(const Tensor& out, const Tensor& in) override {
    return begin(CallMark::all_gather, in, {out, in}, [&] {
      check(ncclAllGather(in.raw(), out.raw(), bytes_of(in), ncclUint8, nccl_, stream_), "all_gather");
    });
  }
  CommEvent start_broadcast(const Tensor& tensor, int root) override {
    return begin(CallMark::broadcast, tensor, {tensor}, [&] {
      check(ncclBroadcast(tensor.raw(), tensor.raw(), bytes_of(tensor), ncclUint8, root, nccl_, stream_), "broadcast");
    });
  }
  CommEvent start_send(const Tensor& tensor, int to) override {
    return begin(CallMark::send, tensor, {tensor},
                 [&] { check(ncclSend(tensor.raw(), bytes_of(tensor), ncclUint8, to, nccl_, stream_), "send"); });
  }
  CommEvent start_recv(const Tensor& tensor, int from) override {
    return begin(CallMark::recv, tensor, {tensor},
                 [&] { check(ncclRecv(tensor.raw(), bytes_of(tensor), ncclUint8, from, nccl_, stream_), "receive"); });
  }
  CommEvent start_barrier() override {
    const Tensor token = Tensor::zeros({1}, DType::f32, options().device);
    return begin(CallMark::barrier, Tensor(), {token}, [&] {
      check(ncclAllReduce(token.raw(), token.raw(), 1, ncclFloat32, ncclSum, nccl_, stream_), "barrier");
    });
  }

  std::unique_ptr<Communicator> make_group(const std::vector<int>& members, const std::string& name) override {
    CommMembers group = members_;
    group.rank = 0;
    group.world_ranks.clear();
    group.options.name = name;
    for (const int member : members) {
      if (member < rank()) ++group.rank;
      group.world_ranks.push_back(world_rank(member));
    }
    return make_nccl_communicator(group);
  }

  const std::shared_ptr<bool> life_ = std::make_shared<bool>(true);
  CommMembers members_;
  std::unique_ptr<Communicator> guard_;
  ncclComm_t nccl_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr;
  Tensor scratch_;
  Flight* flight_ = nullptr;  // that is being started
  std::atomic<bool> failed_{false}, aborted_{false};
  mutable std::mutex mutex_;  // of what follows
  std::condition_variable stopping_;
  bool stop_ = false;
  std::deque<std::shared_ptr<Flight>> flights_;
  std::string failure_;
  CallMark last_;
  CommStatistics statistics_;
  std::thread watcher_;
};

Flight::~Flight() {
  if (ended != nullptr) cudaEventDestroy(ended);
}
void Flight::wait() {
  if (alive.expired()) return;
  owner.wait_on_device(*this);
  tensors.clear();  // who gets the memory now starts work behind this wait
}
void Flight::synchronize() {
  if (!alive.expired()) owner.wait_on_host(*this);
}
bool Flight::done() { return alive.expired() || owner.ended(*this); }

}  // namespace

bool nccl_available() { return true; }

std::unique_ptr<Communicator> make_nccl_communicator(const CommMembers& members) {
  return std::make_unique<NcclCommunicator>(members);
}

}  // namespace ondol
