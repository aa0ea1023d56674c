// Who uses a GPU.
//
//   if (std::string warning = claim_device(model->device()); !warning.empty()) log(warning);
#pragma once

#include <string>

#include <ondol/base/device.h>

namespace ondol {

/// Notes that this process uses the device, and says in one sentence when another one had noted so before; ""
/// otherwise, and for the CPU. Later calls for the same device answer alike.
std::string claim_device(Device device);

}  // namespace ondol
