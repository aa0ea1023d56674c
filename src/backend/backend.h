// What a backend gives besides its kernels: memory and waiting. One instance for each device type that the build has;
// backends register themselves in backend_registry.cpp, the list that CMake generates from the options.
#pragma once

#include <cstddef>
#include <vector>

#include <ondol/backend/devices.h>

#include "backend/block_allocator.h"
#include "backend/kernel_table.h"

namespace ondol {

/// Device bytes on their way to host memory that is given back with release_download.
struct Download {
  void* data = nullptr;
  void* ticket = nullptr;
};

/// What was started on a device between begin_capture and end_capture.
struct CapturedWork;

struct Backend {
  const char* name;
  KernelTable table;
  /// Size of a temporary that an operation fills again and again: enough work for the device each time.
  size_t chunk_bytes;
  int (*device_count)();
  /// The allocator of a device; it lives as long as the process.
  BlockAllocator& (*memory)(Device device);
  /// Copies bytes between host and this backend's memory (either side may be host); returns when it is done.
  void (*copy_bytes)(void* out, const void* in, size_t bytes, Device device);
  /// Host bytes to the device, in the order of the stream and without waiting; `in` may be changed at once.
  void (*upload)(void* out, const void* in, size_t bytes, Device device);
  /// Device bytes to the host, in the order of the stream and without waiting.
  Download (*start_download)(const void* in, size_t bytes, Device device);
  void (*wait_download)(const Download& download, Device device);
  void (*release_download)(const Download& download, Device device);
  void (*synchronize)(Device device);
  /// Kernels are recorded instead of run, until end_capture returns them (null: that was not possible). All four are null
  /// on devices whose work is done when a call returns.
  void (*begin_capture)(Device device);
  CapturedWork* (*end_capture)(Device device);
  void (*replay)(CapturedWork* work, Device device);
  void (*release_captured)(CapturedWork* work, Device device);
  Stream (*stream)(Device device);
  std::vector<DeviceDescription> (*describe)();
};

/// The backend, or null when this build or machine has none of that type.
const Backend* find_backend(DeviceType type);

/// The backend, or an Error that says why there is none.
const Backend& backend(DeviceType type);

const Backend& cpu_backend();

/// For tests: run_kernel on devices of this type takes its rows from `table` (another instruction set, an emulated
/// device that works on host memory) until the next call; null restores the backend's own. Not for use while kernels
/// run.
void override_kernel_table(DeviceType type, const KernelTable* table);

/// The CUDA backend, or null when this build has none or the machine has no usable GPU. CMake chooses the file that
/// defines it: kernels/runtime/backend.cu, or src/backend/no_cuda/backend.cpp.
const Backend* cuda_backend();

/// Why cuda_backend() is null; empty when it is not.
std::string cuda_unavailable_reason();

}  // namespace ondol
