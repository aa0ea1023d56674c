// The device of the tests of whole models and training runs: $ONDOL_TEST_DEVICE (tools/gpu_check sets "cuda"), else
// that of the test program: the CPU, or the emulated GPU in cuda_tests.
#pragma once

#include <cstdlib>

#include <ondol/base/device.h>

namespace ondol::testing {

inline Device test_device() {
  const char* name = std::getenv("ONDOL_TEST_DEVICE");
  return device_from_name(name == nullptr || *name == '\0' ? ONDOL_DEFAULT_TEST_DEVICE : name);
}

}  // namespace ondol::testing
