#include <ondol/base/error.h>

#include "backend/backend.h"

namespace ondol {

const Backend* find_backend(DeviceType type) {
  if (type == DeviceType::cpu) return &cpu_backend();
  static const Backend* const cuda = cuda_backend();
  return cuda;
}

const Backend& backend(DeviceType type) {
  const Backend* found = find_backend(type);
  if (found == nullptr) {
    throw UsageError(concat("device cuda is not available: ", cuda_unavailable_reason()), "use --device cpu");
  }
  return *found;
}

namespace {
const KernelTable* table_overrides[kNumDeviceTypes] = {};
}

void override_kernel_table(DeviceType type, const KernelTable* table) {
  table_overrides[static_cast<int>(type)] = table;
}

const KernelTable& kernel_table(Device device) {
  if (const KernelTable* table = table_overrides[static_cast<int>(device.type)]) return *table;
  if (device.type == DeviceType::cpu) {
    static const KernelTable& table = cpu_backend().table;
    return table;
  }
  return backend(device.type).table;
}

Stream current_stream(Device device) {
  return device.type == DeviceType::cpu ? nullptr : backend(device.type).stream(device);
}

std::vector<DeviceDescription> describe_devices() {
  std::vector<DeviceDescription> out = cpu_backend().describe();
  if (const Backend* cuda = find_backend(DeviceType::cuda)) {
    for (DeviceDescription& device : cuda->describe()) out.push_back(std::move(device));
  }
  return out;
}

std::string device_unavailable_reason(DeviceType type) {
  return find_backend(type) == nullptr ? cuda_unavailable_reason() : "";
}

void throw_missing_kernel(const char* row, Device device, DType dtype) {
  throw_error("[", row, "] no ", device.type == DeviceType::cpu ? "cpu" : "cuda", " kernel for ", dtype_name(dtype));
}

}  // namespace ondol
