// Matrix products with few rows of a (decoding): b is read once, at the rate of memory.
#pragma once

#include "launch.h"

namespace ondol::ONDOL_CUDA_SPACE {

/// Does a product that is not empty when it has few rows and its layout allows 128-bit loads of b; false when not.
bool few_rows_gemm(const GemmArgs& args, DType dtype, Stream stream);

}  // namespace ondol::ONDOL_CUDA_SPACE
