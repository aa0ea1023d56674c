// Copies between host and device that nobody waits for. Host memory is pinned and used again; there are as many buffers
// as copies are under way at once, two of each kind when the host is one step ahead.
//
// Upload: pinned memory to a staging place on a stream of its own, so that the transfer overlaps with kernels, then in
// the order of the main stream to where it belongs, so that kernels before it still see the old bytes.
#include <bit>
#include <cstring>
#include <memory>
#include <vector>

#include "launch.h"
#include "runtime/runtime.h"

namespace ondol::cuda {
namespace {

constexpr size_t kMinBytes = 4096;
constexpr size_t kLargeBytes = 1 << 20;

/// Powers of two, and whole MiB for what is large: pinned memory is dear.
size_t capacity_for(size_t bytes) {
  if (bytes > kLargeBytes) return (bytes + kLargeBytes - 1) / kLargeBytes * kLargeBytes;
  return std::bit_ceil(bytes < kMinBytes ? kMinBytes : bytes);
}

/// Pinned host memory, with a place on the device when it is for uploads. `done` is recorded behind the last use.
struct Buffer {
  size_t capacity = 0;
  void* host = nullptr;
  void* staging = nullptr;
  cudaEvent_t arrived = nullptr, done = nullptr;
  bool held = false;  // a download that was not given back
};

class Transfers {
 public:
  explicit Transfers(Device device) : device_(device) {
    CUDA_CHECK("transfer", cudaStreamCreateWithFlags(&copy_stream_, cudaStreamNonBlocking));
  }

  void upload(void* out, const void* in, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const cudaStream_t stream = stream_of(device_);
    Buffer& buffer = take(uploads_, bytes, true);
    std::memcpy(buffer.host, in, bytes);
    CUDA_CHECK("upload", cudaMemcpyAsync(buffer.staging, buffer.host, bytes, cudaMemcpyHostToDevice, copy_stream_));
    CUDA_CHECK("upload", cudaEventRecord(buffer.arrived, copy_stream_));
    CUDA_CHECK("upload", cudaStreamWaitEvent(stream, buffer.arrived, 0));
    CUDA_CHECK("upload", cudaMemcpyAsync(out, buffer.staging, bytes, cudaMemcpyDeviceToDevice, stream));
    CUDA_CHECK("upload", cudaEventRecord(buffer.done, stream));
  }

  Download download(const void* in, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const cudaStream_t stream = stream_of(device_);
    Buffer& buffer = take(downloads_, bytes, false);
    CUDA_CHECK("download", cudaMemcpyAsync(buffer.host, in, bytes, cudaMemcpyDeviceToHost, stream));
    CUDA_CHECK("download", cudaEventRecord(buffer.done, stream));
    buffer.held = true;
    return {buffer.host, &buffer};
  }

  void release(Buffer& buffer) {
    const std::lock_guard lock(mutex_);
    buffer.held = false;
  }

 private:
  /// A buffer that no copy is using any more.
  Buffer& take(std::vector<std::unique_ptr<Buffer>>& buffers, size_t bytes, bool staging) {
    const size_t capacity = capacity_for(bytes);
    for (const auto& buffer : buffers) {
      if (buffer->capacity == capacity && !buffer->held && cudaEventQuery(buffer->done) == cudaSuccess) return *buffer;
    }
    cudaGetLastError();  // "not ready" is no error
    auto buffer = std::make_unique<Buffer>();
    buffer->capacity = capacity;
    CUDA_CHECK("transfer", cudaMallocHost(&buffer->host, capacity));
    if (staging) CUDA_CHECK("transfer", cudaMalloc(&buffer->staging, capacity));
    CUDA_CHECK("transfer", cudaEventCreateWithFlags(&buffer->arrived, cudaEventDisableTiming));
    CUDA_CHECK("transfer", cudaEventCreateWithFlags(&buffer->done, cudaEventDisableTiming));
    return *buffers.emplace_back(std::move(buffer));
  }

  const Device device_;
  std::mutex mutex_;
  cudaStream_t copy_stream_ = nullptr;
  std::vector<std::unique_ptr<Buffer>> uploads_, downloads_;  // kept until the process ends
};

Transfers& transfers(Device device) {
  static PerDevice<Transfers*> instances;
  select(device);
  return *instances.get(device, [device] { return new Transfers(device); });
}

}  // namespace

void upload(void* out, const void* in, size_t bytes, Device device) {
  if (bytes > 0) transfers(device).upload(out, in, bytes);
}

Download start_download(const void* in, size_t bytes, Device device) {
  return bytes > 0 ? transfers(device).download(in, bytes) : Download{};
}

void wait_download(const Download& download, Device) {
  if (download.ticket == nullptr) return;
  CUDA_CHECK("download", cudaEventSynchronize(static_cast<Buffer*>(download.ticket)->done));
}

void release_download(const Download& download, Device device) {
  if (download.ticket != nullptr) transfers(device).release(*static_cast<Buffer*>(download.ticket));
}

}  // namespace ondol::cuda
