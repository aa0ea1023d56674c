// Square blocks of 32-bit words turned in registers, and words that hold pairs of bf16.
#pragma once

#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {

// transpose_block turns kLanes vectors holding the rows of a square block into its columns.
#if defined(ONDOL_ISA_avx512) || defined(ONDOL_ISA_amx)

inline void transpose_block(Floats (&block)[kLanes]) {
  __m512 pair[16], quad[16];
  for (int i = 0; i < 16; i += 2) {
    pair[i] = _mm512_unpacklo_ps(block[i].v, block[i + 1].v);
    pair[i + 1] = _mm512_unpackhi_ps(block[i].v, block[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int half = 0; half < 2; ++half) {
      const __m512d low = _mm512_castps_pd(pair[i + half]), high = _mm512_castps_pd(pair[i + half + 2]);
      quad[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      quad[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  // quad[4 g + c] holds, in its 128-bit part p, column 4 p + c of the rows 4 g .. 4 g + 3.
  for (int c = 0; c < 4; ++c) {
    const __m512 even01 = _mm512_shuffle_f32x4(quad[c], quad[4 + c], 0x88);
    const __m512 odd01 = _mm512_shuffle_f32x4(quad[c], quad[4 + c], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(quad[8 + c], quad[12 + c], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(quad[8 + c], quad[12 + c], 0xdd);
    block[c].v = _mm512_shuffle_f32x4(even01, even23, 0x88);
    block[8 + c].v = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    block[4 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    block[12 + c].v = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}

#elif defined(ONDOL_ISA_avx2)

inline void transpose_block(Floats (&block)[kLanes]) {
  __m256 pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_ps(block[i].v, block[i + 1].v);
    pair[i + 1] = _mm256_unpackhi_ps(block[i].v, block[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int half = 0; half < 2; ++half) {
      const __m256d low = _mm256_castps_pd(pair[i + half]), high = _mm256_castps_pd(pair[i + half + 2]);
      quad[i + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
      quad[i + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
    }
  }
  for (int c = 0; c < 4; ++c) {
    block[c].v = _mm256_permute2f128_ps(quad[c], quad[4 + c], 0x20);
    block[4 + c].v = _mm256_permute2f128_ps(quad[c], quad[4 + c], 0x31);
  }
}

#else

inline void transpose_block(Floats (&block)[kLanes]) {
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < i; ++j) {
      const float upper = block[j].v[i];
      block[j].v[i] = block[i].v[j];
      block[i].v[j] = upper;
    }
  }
}

#endif

/// kLanes words of 32 bits as they lie in memory: one f32 or a pair of bf16 each, the first in the lower half.
inline Floats load_words(const float* p) { return load(p); }
inline Floats load_words(const bfloat16* p) { return load(reinterpret_cast<const float*>(p)); }

/// The two bf16 of each word, widened; and a word from two widened ones.
#if defined(ONDOL_ISA_avx512) || defined(ONDOL_ISA_amx)
inline Floats lower_bf16(Floats a) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 16))}; }
inline Floats upper_bf16(Floats a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_set1_epi32(-65536)))};
}
inline Floats join_bf16(Floats lower, Floats upper) {
  const __m512i low = _mm512_srli_epi32(_mm512_castps_si512(lower.v), 16);
  return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_castps_si512(upper.v)))};
}
#elif defined(ONDOL_ISA_avx2)
inline Floats lower_bf16(Floats a) { return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 16))}; }
inline Floats upper_bf16(Floats a) { return {_mm256_and_ps(a.v, _mm256_castsi256_ps(_mm256_set1_epi32(-65536)))}; }
inline Floats join_bf16(Floats lower, Floats upper) {
  return {_mm256_or_ps(_mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(lower.v), 16)), upper.v)};
}
#else
inline Floats lower_bf16(Floats a) { return floats_of(bits_of(a) << 16); }
inline Floats upper_bf16(Floats a) { return floats_of(bits_of(a) & splat_int(-65536)); }
inline Floats join_bf16(Floats lower, Floats upper) {
  return floats_of(((bits_of(lower) >> 16) & splat_int(0xffff)) | bits_of(upper));
}
#endif

}  // namespace ondol::cpu::ONDOL_ISA
