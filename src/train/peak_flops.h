// The most floating-point operations a second that the device can do, for model FLOP utilisation.
#pragma once

#include <optional>

#include <ondol/base/device.h>
#include <ondol/base/dtype.h>

namespace ondol {

/// CPU: multiply-adds of the widest vectors, measured on all threads in a few milliseconds. Nothing where that is not
/// what matrix products of this dtype use (matrix tiles, GPUs): the configuration then names the peak.
std::optional<double> measured_peak_flops(Device device, DType dtype);

}  // namespace ondol
