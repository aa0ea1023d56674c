// Packing of matrix operands into the order in which the micro-kernel reads them, widening bf16 to f32 on the way.
#pragma once

#include <cstdint>

#include <ondol/base/dtype.h>

#include "backend/cpu/kernels/pack_words.h"
#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {

/// Panels of panel_cols columns, panel p at out + p * panel_stride: out[l * panel_cols + j] = in[l * in_stride +
/// p * panel_cols + j] for l < rows; zeros behind the last of `cols` columns. Rows are read whole, so that memory streams.
template <class T>
void pack_rows(const T* in, int64_t in_stride, int64_t rows, int64_t cols, int64_t panel_cols, float* out,
               int64_t panel_stride);

/// out[l * out_stride + j] = in[j * in_stride + l] for l < rows, j < cols; zeros for cols <= j < padded_cols.
template <class T>
void pack_transposed(const T* in, int64_t in_stride, int64_t rows, int64_t cols, int64_t padded_cols, float* out,
                     int64_t out_stride);

}  // namespace ondol::cpu::ONDOL_ISA
