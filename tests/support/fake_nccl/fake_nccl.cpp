#include "fake_nccl.h"

#include <cstdio>
#include <cstring>

#include <unistd.h>

#include <ondol/distributed/communicator.h>

using ondol::concat;
using ondol::DType;
using ondol::Tensor;
using ondol::testing::fake_nccl;

struct FakeEvent {
  int number;
};

/// Bytes travel through a communicator of the CPU.
struct FakeNcclComm {
  int rank = 0, ranks = 1;
  std::unique_ptr<ondol::Communicator> wires;
};

namespace {

struct FakeStream {
  int number;
};
int streams = 0, events = 0, communicators = 0;

struct Message {
  bool send;
  void* data;
  size_t bytes;
  int peer;
  ncclComm_t comm;
};
bool in_group = false;
std::vector<Message> group;

template <class... Args>
void note(const Args&... args) {
  const std::lock_guard lock(fake_nccl().mutex);
  fake_nccl().calls.push_back(concat(args...));
}

int number_of(cudaStream_t stream) { return stream == nullptr ? 0 : static_cast<FakeStream*>(stream)->number; }

DType dtype_of_nccl(ncclDataType_t type) {
  switch (type) {
    case ncclInt64:
      return DType::i64;
    case ncclFloat32:
      return DType::f32;
    case ncclFloat64:
      return DType::f64;
    case ncclBfloat16:
      return DType::bf16;
    default:
      return DType::u8;
  }
}

Tensor host_tensor(const void* data, size_t count, ncclDataType_t type) {
  return Tensor::borrow(const_cast<void*>(data), {static_cast<int64_t>(count)}, dtype_of_nccl(type), [] {});
}

ondol::ReduceOptions options_of(ncclRedOp_t op) {
  return {op == ncclSum ? ondol::ReduceOp::sum : ondol::ReduceOp::max, -1};
}

void deliver(const std::vector<Message>& messages) {
  std::vector<ondol::CommEvent> pending;
  for (const bool sends : {true, false}) {
    for (const Message& m : messages) {
      if (m.send != sends || !m.comm->wires) continue;
      const Tensor bytes = host_tensor(m.data, m.bytes, ncclUint8);
      pending.push_back(sends ? m.comm->wires->send(bytes, m.peer) : m.comm->wires->recv(bytes, m.peer));
    }
  }
  for (const ondol::CommEvent& event : pending) event.wait();
}

void message(const Message& m) {
  if (in_group) {
    group.push_back(m);
  } else {
    deliver({m});
  }
}

size_t bytes_of(size_t count, ncclDataType_t type) { return count * ondol::dtype_size(dtype_of_nccl(type)); }

const char* name_of(ncclDataType_t type) { return ondol::dtype_name(dtype_of_nccl(type)); }

}  // namespace

namespace ondol::testing {
FakeNccl& fake_nccl() {
  static FakeNccl fake;
  return fake;
}
}  // namespace ondol::testing

cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* low, int* high) {
  *low = 0;
  *high = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int priority) {
  *stream = new FakeStream{++streams};
  note("make stream ", streams, " of priority ", priority);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete static_cast<FakeStream*>(stream);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new FakeEvent{++events};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  note("record event ", event->number, " on stream ", number_of(stream));
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  note("stream ", number_of(stream), " waits for event ", event->number);
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t) {
  const std::lock_guard lock(fake_nccl().mutex);
  return fake_nccl().events_happen ? cudaSuccess : cudaErrorNotReady;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclRemoteError ? "remote process exited" : "an error";
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::memset(id->internal, 0, sizeof(id->internal));
  std::snprintf(id->internal, sizeof(id->internal), "wires-%d-%d", static_cast<int>(getpid()), ++communicators);
  note("get id");
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  note("init rank ", rank, " of ", ranks, config->blocking == 0 ? ", not blocking" : "");
  *comm = new FakeNcclComm{rank, ranks, nullptr};
  if (fake_nccl().meeting) {
    (*comm)->wires = ondol::make_communicator({.rank = rank, .size = ranks}, fake_nccl().meeting,
                                              {.transport = ondol::CommTransport::automatic, .name = id.internal});
  }
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* error) {
  const std::lock_guard lock(fake_nccl().mutex);
  *error = fake_nccl().asynchronous_error;
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  note("destroy");
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  note("abort");
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  note("group start");
  in_group = true;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  note("group end");
  in_group = false;
  deliver(group);
  group.clear();
  return ncclSuccess;
}
ncclResult_t ncclSend(const void* in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  note("send ", count, " ", name_of(type), " to ", peer, " on stream ", number_of(stream));
  message({true, const_cast<void*>(in), bytes_of(count, type), peer, comm});
  return ncclSuccess;
}
ncclResult_t ncclRecv(void* out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  note("receive ", count, " ", name_of(type), " from ", peer, " on stream ", number_of(stream));
  message({false, out, bytes_of(count, type), peer, comm});
  return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  note("all_reduce ", count, " ", name_of(type), op == ncclSum ? " sum" : " max", " on stream ", number_of(stream));
  if (comm->wires)
    comm->wires->all_reduce(host_tensor(out, count, type), host_tensor(in, count, type), options_of(op)).wait();
  return ncclSuccess;
}
ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream) {
  note("reduce_scatter ", count, " ", name_of(type), op == ncclSum ? " sum" : " max", " on stream ", number_of(stream));
  const size_t all = count * static_cast<size_t>(comm->ranks);
  if (comm->wires)
    comm->wires->reduce_scatter(host_tensor(out, count, type), host_tensor(in, all, type), options_of(op)).wait();
  return ncclSuccess;
}
ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  note("all_gather ", count, " ", name_of(type), " on stream ", number_of(stream));
  const size_t all = count * static_cast<size_t>(comm->ranks);
  if (comm->wires) comm->wires->all_gather(host_tensor(out, all, type), host_tensor(in, count, type)).wait();
  return ncclSuccess;
}
ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  note("broadcast ", count, " ", name_of(type), in == out ? " in place" : "", " from ", root, " on stream ",
       number_of(stream));
  if (comm->wires) comm->wires->broadcast(host_tensor(out, count, type), root).wait();
  return ncclSuccess;
}
