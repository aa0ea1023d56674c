// The devices that this build finds on this machine.
//
//   for (const DeviceDescription& d : describe_devices()) std::cout << to_string(d.device) << ": " << d.name << "\n";
//   if (std::string why = device_unavailable_reason(DeviceType::cuda); !why.empty()) std::cout << why << "\n";
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <ondol/base/device.h>

namespace ondol {

struct DeviceDescription {
  Device device;
  std::string name;          // "NVIDIA H100 80GB HBM3", "cpu"
  size_t memory_bytes = 0;   // of the whole device
  std::string architecture;  // compute capability "9.0", CPU instruction set "avx512"
  int processors = 0;        // multiprocessors, CPU threads in use
  std::string driver;        // version of the driver's CUDA, empty for the CPU
};

/// The CPU first, then every usable GPU.
std::vector<DeviceDescription> describe_devices();

/// Why there is no device of this type, in one sentence; empty when there is one.
std::string device_unavailable_reason(DeviceType type);

}  // namespace ondol
