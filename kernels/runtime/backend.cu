// The CUDA backend: memory, one stream for each device, and the kernel table. The runtime is linked statically and
// finds the driver when it is first called, so the program also starts on machines without one.
#include <string>

#include "backend/backend.h"
#include "backend/cuda_details.h"
#include "launch.h"
#include "rows.h"
#include "runtime/runtime.h"
#include "runtime/vendor_libraries.h"
#include "workspace.h"

namespace ondol {

namespace {

struct Detection {
  int count = 0;
  std::string problem;  // empty: there is a usable GPU
};

std::string version_name(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

Detection detect() {
  Detection found;
  const cudaError_t status = cudaGetDeviceCount(&found.count);
  if (status == cudaSuccess && found.count > 0) {
    if (found.count > cuda::kMaxDevices) found.count = cuda::kMaxDevices;
    return found;
  }
  found.count = 0;
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();  // not to be taken for an error of the next call
  if (driver == 0) {
    found.problem = "this machine has no NVIDIA driver (libcuda.so.1 was not found)";
  } else if (status == cudaErrorInsufficientDriver) {
    found.problem = concat("the NVIDIA driver is too old: it supports CUDA ", version_name(driver),
                           ", this build needs ", version_name(runtime));
  } else if (status == cudaSuccess || status == cudaErrorNoDevice) {
    found.problem = "the NVIDIA driver shows no GPU (none installed, or CUDA_VISIBLE_DEVICES hides it)";
  } else {
    found.problem = concat("the NVIDIA driver does not work: ", cudaGetErrorString(status));
  }
  return found;
}

const Detection& detection() {
  static const Detection found = detect();
  return found;
}

}  // namespace

namespace cuda {

void select(Device device) {
  ONDOL_CHECK(device.index >= 0 && device.index < detection().count, "device ", to_string(device),
              " does not exist: this machine has ", detection().count, " (cuda:0 to cuda:", detection().count - 1, ")");
  CUDA_CHECK("select device", cudaSetDevice(device.index));
}

cudaStream_t stream_of(Device device) {
  static PerDevice<cudaStream_t> streams;
  select(device);  // kernels are launched right after this on the calling thread
  return streams.get(device, [] {
    cudaStream_t stream = nullptr;
    CUDA_CHECK("stream", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  });
}

}  // namespace cuda

namespace {

using cuda::select;
using cuda::stream_of;

Stream stream(Device device) { return stream_of(device); }

class GpuMemory final : public SystemMemory {
 public:
  explicit GpuMemory(Device device) : device_(device) {}

  void* allocate(size_t bytes) override {
    select(device_);
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not to be taken for an error of the next call
      return nullptr;
    }
    CUDA_CHECK("allocate", status);
    return memory;
  }
  void release(void* memory, size_t) override {
    if (cudaSetDevice(device_.index) == cudaSuccess) cudaFree(memory);  // at exit the driver may be gone already
  }
  void synchronize() override { CUDA_CHECK("release memory", cudaStreamSynchronize(stream_of(device_))); }
  std::string name() const override { return to_string(device_); }
  std::string free_memory() const override {
    size_t free = 0, total = 0;
    if (cudaSetDevice(device_.index) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess) return "";
    return concat(free >> 20, " of ", total >> 20, " MiB are free");
  }

 private:
  const Device device_;
};

BlockAllocator& memory(Device device) {
  static cuda::PerDevice<BlockAllocator*> allocators;
  select(device);
  return *allocators.get(device, [device] {  // outlives all tensors
    return new BlockAllocator(*new GpuMemory(device), {.granularity = 512, .steps = 64, .split = true});
  });
}

void synchronize(Device device) { CUDA_CHECK("synchronize", cudaStreamSynchronize(stream_of(device))); }

void copy_bytes(void* out, const void* in, size_t bytes, Device device) {
  if (bytes == 0) return;
  const cudaStream_t queue = stream_of(device);
  CUDA_CHECK("copy", cudaMemcpyAsync(out, in, bytes, cudaMemcpyDefault, queue));
  CUDA_CHECK("copy", cudaStreamSynchronize(queue));
}

std::vector<DeviceDescription> describe() {
  std::vector<DeviceDescription> out;
  int driver = 0;
  cudaDriverGetVersion(&driver);
  for (int i = 0; i < detection().count; ++i) {
    cudaDeviceProp properties{};
    CUDA_CHECK("describe devices", cudaGetDeviceProperties(&properties, i));
    out.push_back({.device = {DeviceType::cuda, i},
                   .name = properties.name,
                   .memory_bytes = properties.totalGlobalMem,
                   .architecture = concat(properties.major, ".", properties.minor),
                   .processors = properties.multiProcessorCount,
                   .driver = version_name(driver)});
  }
  return out;
}

}  // namespace

namespace cuda {

WorkspaceBlock allocate_workspace(const char* op, size_t bytes, Stream) {
  int device = 0;
  CUDA_CHECK(op, cudaGetDevice(&device));
  BlockAllocator& allocator = ondol::memory({DeviceType::cuda, device});
  BlockAllocator::Block* const block = allocator.allocate(bytes);
  return {block->data, block, &allocator};
}

void release_workspace(const WorkspaceBlock& workspace) noexcept { workspace.allocator->release(workspace.block); }

}  // namespace cuda

const Backend* cuda_backend() {
  if (detection().count == 0) return nullptr;
  static const Backend instance = [] {
    Backend b{};
    b.name = "cuda";
    b.chunk_bytes = size_t{1} << 30;
    b.device_count = [] { return detection().count; };
    b.memory = memory;
    b.copy_bytes = copy_bytes;
    b.upload = cuda::upload;
    b.start_download = cuda::start_download;
    b.wait_download = cuda::wait_download;
    b.release_download = cuda::release_download;
    b.synchronize = synchronize;
    b.begin_capture = cuda::begin_capture;
    b.end_capture = cuda::end_capture;
    b.replay = cuda::replay;
    b.release_captured = cuda::release_captured;
    b.stream = stream;
    b.describe = describe;
    cuda::fill_cuda_table(b.table);
    return b;
  }();
  return &instance;
}

std::string cuda_unavailable_reason() { return detection().problem; }

std::string cuda_device_id(Device device) {
  char id[32] = {};
  CUDA_CHECK("device id", cudaDeviceGetPCIBusId(id, sizeof(id), device.index));
  return id;
}

std::vector<std::pair<std::string, std::string>> cuda_libraries() {
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  cudaGetLastError();  // without a driver there is an error, and it is no news
  const std::string cublaslt = cublaslt_version();
  return {{"CUDA driver", driver == 0 ? "not found" : version_name(driver)},
          {"CUDA runtime", version_name(runtime)},
          {"cuBLASLt", cublaslt.empty() ? "not found" : cublaslt}};
}

}  // namespace ondol
