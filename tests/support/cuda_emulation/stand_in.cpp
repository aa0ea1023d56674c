// Makes the emulated backend the CUDA backend of the program that links this file before the library: tensors on cuda:0
// then live in guarded memory and every op on them runs the kernels of kernels/.
#include <unistd.h>

#include <ondol/base/error.h>

#include "backend/cuda_details.h"
#include "emulated_cuda.h"

namespace ondol {

const Backend* cuda_backend() { return &emulated_cuda_backend(); }
std::string cuda_unavailable_reason() { return ""; }

std::string cuda_device_id(Device) { return concat("emulated-", ::getpid()); }
std::vector<std::pair<std::string, std::string>> cuda_libraries() { return {}; }

}  // namespace ondol
