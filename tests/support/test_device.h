// The device of the tests of whole models and training runs: $ONDOL_TEST_DEVICE (tools/gpu_check sets "cuda"), else the
// CPU.
#pragma once

#include <cstdlib>

#include <ondol/base/device.h>

namespace ondol::testing {

inline Device test_device() {
  const char* name = std::getenv("ONDOL_TEST_DEVICE");
  return name == nullptr || *name == '\0' ? Device{} : device_from_name(name);
}

}  // namespace ondol::testing
