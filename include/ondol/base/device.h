// Where a tensor lives.
#pragma once

#include <string>

namespace ondol {

enum class DeviceType : unsigned char { cpu, cuda };
inline constexpr int kNumDeviceTypes = 2;

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  bool operator==(const Device&) const = default;
};

/// "cpu" or "cuda:N".
std::string to_string(Device device);

/// Takes "cpu", "cuda", "cuda:N". "auto" is a decision of the program, not a device. Throws UsageError.
Device device_from_name(const std::string& name);

}  // namespace ondol
