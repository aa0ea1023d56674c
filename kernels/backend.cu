// The CUDA backend: memory, one stream for each device, and the kernel table. The runtime is linked statically and
// finds the driver when it is first called, so the program also starts on machines without one.
#include <array>
#include <mutex>
#include <string>

#include "backend/backend.h"
#include "launch.h"
#include "rows.h"

namespace ondol {

namespace {

constexpr int kMaxDevices = 64;

struct Detection {
  int count = 0;
  std::string problem;  // empty: there is a usable GPU
};

std::string version_name(int version) { return concat(version / 1000, ".", version % 1000 / 10); }

Detection detect() {
  Detection found;
  const cudaError_t status = cudaGetDeviceCount(&found.count);
  if (status == cudaSuccess && found.count > 0) {
    if (found.count > kMaxDevices) found.count = kMaxDevices;
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

void select(Device device) {
  ONDOL_CHECK(device.index >= 0 && device.index < detection().count, "device ", to_string(device),
              " does not exist: this machine has ", detection().count, " (cuda:0 to cuda:", detection().count - 1, ")");
  CUDA_CHECK("select device", cudaSetDevice(device.index));
}

Stream stream(Device device) {
  struct Slot {
    std::once_flag once;
    cudaStream_t stream = nullptr;
  };
  static std::array<Slot, kMaxDevices> slots;
  select(device);  // kernels are launched right after this on the calling thread
  Slot& slot = slots[static_cast<size_t>(device.index)];
  std::call_once(slot.once, [&] {
    // Workspaces of kernels come and go in stream order; keeping their memory makes that nearly free.
    cudaMemPool_t pool = nullptr;
    CUDA_CHECK("stream", cudaDeviceGetDefaultMemPool(&pool, device.index));
    uint64_t keep = UINT64_MAX;
    CUDA_CHECK("stream", cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
    CUDA_CHECK("stream", cudaStreamCreateWithFlags(&slot.stream, cudaStreamNonBlocking));
  });
  return slot.stream;
}

void* allocate(size_t bytes, Device device) {
  select(device);
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw Error(concat("out of memory: ", bytes >> 20, " MiB asked on ", to_string(device), ", ", free >> 20, " of ",
                       total >> 20, " MiB free"),
                "lower train.micro_batch_size or data.sequence_length");
  }
  CUDA_CHECK("allocate", status);
  return memory;
}

void release(void* memory, size_t, Device device) {
  if (cudaSetDevice(device.index) == cudaSuccess) cudaFree(memory);  // at exit the driver may be gone already
}

void synchronize(Device device) {
  CUDA_CHECK("synchronize", cudaStreamSynchronize(static_cast<cudaStream_t>(stream(device))));
}

void copy_bytes(void* out, const void* in, size_t bytes, Device device) {
  if (bytes == 0) return;
  const auto queue = static_cast<cudaStream_t>(stream(device));
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

const Backend* cuda_backend() {
  if (detection().count == 0) return nullptr;
  static const Backend instance = [] {
    Backend b{};
    b.name = "cuda";
    b.device_count = [] { return detection().count; };
    b.allocate = allocate;
    b.release = release;
    b.copy_bytes = copy_bytes;
    b.synchronize = synchronize;
    b.stream = stream;
    b.describe = describe;
    cuda::fill_cuda_table(b.table);
    return b;
  }();
  return &instance;
}

std::string cuda_unavailable_reason() { return detection().problem; }

}  // namespace ondol
