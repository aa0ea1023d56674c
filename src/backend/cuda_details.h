// What the program reports about the CUDA backend. Defined beside cuda_backend(), in the file that CMake chooses.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ondol/base/device.h>

namespace ondol {

/// Names a GPU among all of the machine, whatever CUDA_VISIBLE_DEVICES shows: "0000:65:00.0".
std::string cuda_device_id(Device device);

/// Libraries of the build and of the machine with their versions, such as {"cuBLASLt", "13.1.0"}; "not found" for those
/// that cannot be opened.
std::vector<std::pair<std::string, std::string>> cuda_libraries();

}  // namespace ondol
