// Packing of matrix operands into the order in which the micro-kernel reads them, widening bf16 to f32 on the way.
#pragma once

#include <cstdint>

#include <ondol/base/dtype.h>

#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {

/// Panels of panel_cols columns, panel p at out + p * panel_stride: out[l * panel_cols + j] = in[l * in_stride + p *
/// panel_cols
/// + j] for l < rows; zeros behind the last of `cols` columns. Rows are read whole, so that memory streams.
template <class T>
void pack_rows(const T* in, int64_t in_stride, int64_t rows, int64_t cols, int64_t panel_cols, float* out,
               int64_t panel_stride);

/// out[l * out_stride + j] = in[j * in_stride + l] for l < rows, j < cols; zeros for cols <= j < padded_cols.
template <class T>
void pack_transposed(const T* in, int64_t in_stride, int64_t rows, int64_t cols, int64_t padded_cols, float* out,
                     int64_t out_stride);

/// Turns kLanes vectors holding the rows of a square block into its columns.
void transpose_block(Floats (&block)[kLanes]);

/// kLanes words of 32 bits as they lie in memory: one f32 or a pair of bf16 each, the first in the lower half.
inline Floats load_words(const float* p) { return load(p); }
inline Floats load_words(const bfloat16* p) { return load(reinterpret_cast<const float*>(p)); }

/// The two bf16 of each word, widened.
#if defined(ONDOL_ISA_avx512) || defined(ONDOL_ISA_amx)
inline Floats lower_bf16(Floats a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 16))}; }
inline Floats upper_bf16(Floats a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(-65536)))};
}
#elif defined(ONDOL_ISA_avx2)
inline Floats lower_bf16(Floats a) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 16))}; }
inline Floats upper_bf16(Floats a) { return {_mm256_and_ps(a.v, _mm256_castsi256_ps(_mm256_set1_epi32(-65536)))}; }
#else
inline Floats lower_bf16(Floats a) { return floats_of(bits_of(a) << 16); }
inline Floats upper_bf16(Floats a) { return floats_of(bits_of(a) & splat_int(-65536)); }
#endif

}  // namespace ondol::cpu::ONDOL_ISA
