// What happens to a finished block of sums on its way into c: alpha, bias, activation, residual, beta, rounding.
#pragma once

#include "backend/cpu/kernels/simd.h"
#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

/// Finishes sums (rows, cols), which belong at (row, col) of the matrix `index` of the batch. T is the data type.
template <class T>
void finish_block(const GemmArgs& args, int64_t index, int64_t row, int64_t col, int64_t rows, int64_t cols,
                  const float* sums, int64_t sums_stride);

}  // namespace ondol::cpu::ONDOL_ISA
