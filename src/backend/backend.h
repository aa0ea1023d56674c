// What a backend gives besides its kernels: memory and waiting. One instance for each device type that the build has;
// backends register themselves in backend_registry.cpp, the list that CMake generates from the options.
#pragma once

#include <cstddef>
#include <vector>

#include <ondol/backend/devices.h>

#include "backend/kernel_table.h"

namespace ondol {

struct Backend {
  const char* name;
  KernelTable table;
  int (*device_count)();
  void* (*allocate)(size_t bytes, Device device);  // aligned to 64 bytes or more; throws Error when there is no memory
  void (*release)(void* memory, size_t bytes, Device device);
  /// Copies bytes between host and this backend's memory (either side may be host); returns when it is done.
  void (*copy_bytes)(void* out, const void* in, size_t bytes, Device device);
  void (*synchronize)(Device device);
  Stream (*stream)(Device device);
  std::vector<DeviceDescription> (*describe)();
  /// False: the allocator keeps no freed block and rounds no size up, so that a backend which guards its memory (the
  /// emulated one of the tests) sees every tensor's own bounds and life.
  bool reuses_memory = true;
};

/// The backend, or null when this build or machine has none of that type.
const Backend* find_backend(DeviceType type);

/// The backend, or an Error that says why there is none.
const Backend& backend(DeviceType type);

const Backend& cpu_backend();

/// For tests: run_kernel on devices of this type takes its rows from `table` (another instruction set, an emulated
/// device that works on host memory) until the next call; null restores the backend's own. Not for use while kernels run.
void override_kernel_table(DeviceType type, const KernelTable* table);

/// The CUDA backend, or null when this build has none or the machine has no usable GPU. CMake chooses the file that
/// defines it: kernels/backend.cu, or src/backend/no_cuda/backend.cpp.
const Backend* cuda_backend();

/// Why cuda_backend() is null; empty when it is not.
std::string cuda_unavailable_reason();

}  // namespace ondol
