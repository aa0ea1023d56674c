// Stands in for the CUDA backend in builds without it.
#include <string>

#include "backend/backend.h"
#include "backend/cuda_details.h"

namespace ondol {

const Backend* cuda_backend() { return nullptr; }

std::string cuda_unavailable_reason() { return "this build has no CUDA (configure with -DONDOL_CUDA=ON)"; }

std::string cuda_device_id(Device) { return ""; }

std::vector<std::pair<std::string, std::string>> cuda_libraries() { return {}; }

}  // namespace ondol
