// The versions of the libraries that are opened when they are needed; "" when one cannot be opened.
#pragma once

#include <string>

namespace ondol {

std::string cublaslt_version();

}  // namespace ondol
