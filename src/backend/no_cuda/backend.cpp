// Stands in for the CUDA backend in builds without it.
#include <string>

#include "backend/backend.h"

namespace ondol {

const Backend* cuda_backend() { return nullptr; }

std::string cuda_unavailable_reason() { return "this build has no CUDA (configure with -DONDOL_CUDA=ON)"; }

}  // namespace ondol
