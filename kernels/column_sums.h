// The second stage of sums over rows: parts of the rows have left partial sums.
#pragma once

#include "launch.h"

namespace ondol::ONDOL_CUDA_SPACE {

/// out[c] (+)= sum over p of partial[p, c], in an order fixed by the shape; 0 when there are no parts.
void sum_partials(const char* op, const float* partial, int64_t parts, int64_t cols, float* out, bool accumulate,
                  Stream stream);

}  // namespace ondol::ONDOL_CUDA_SPACE
