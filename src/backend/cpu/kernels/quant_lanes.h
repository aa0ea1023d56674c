// One block of quantised weights as vectors of f32: its 32 integers in order, the scale left out (Q4_0: nibble - 8).
#pragma once

#include <ondol/base/quantized_blocks.h>

#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int kBlockVectors = static_cast<int>(kQuantBlock) / kLanes;

#if defined(ONDOL_ISA_avx512) || defined(ONDOL_ISA_amx)

inline __m128i block_bytes(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

inline void block_integers(const BlockQ8_0& block, Floats (&out)[kBlockVectors]) {
  out[0].v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(block_bytes(block.value)));
  out[1].v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(block_bytes(block.value + 16)));
}

/// The permutation looks at the lowest four bits of an index only, so that it takes a nibble out of a byte and converts
/// it at once.
inline void nibble_integers(const uint8_t* nibbles, float first, Floats (&out)[kBlockVectors]) {
  const __m512 counting = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 table = _mm512_add_ps(counting, _mm512_set1_ps(first));
  const __m512i bytes = _mm512_cvtepu8_epi32(block_bytes(nibbles));
  out[0].v = _mm512_permutexvar_ps(bytes, table);
  out[1].v = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table);
}

inline Floats load_halves(const float16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}

#elif defined(ONDOL_ISA_avx2)

inline void widen_bytes(__m128i bytes, Floats& low, Floats& high) {
  low.v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
  high.v = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)));
}

inline void block_integers(const BlockQ8_0& block, Floats (&out)[kBlockVectors]) {
  widen_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.value)), out[0], out[1]);
  widen_bytes(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block.value + 16)), out[2], out[3]);
}

inline void nibble_integers(const uint8_t* nibbles, float first, Floats (&out)[kBlockVectors]) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(nibbles));
  const __m128i mask = _mm_set1_epi8(15), offset = _mm_set1_epi8(static_cast<char>(first));
  widen_bytes(_mm_add_epi8(_mm_and_si128(bytes, mask), offset), out[0], out[1]);
  widen_bytes(_mm_add_epi8(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask), offset), out[2], out[3]);
}

inline Floats load_halves(const float16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}

#else

inline void block_integers(const BlockQ8_0& block, Floats (&out)[kBlockVectors]) {
  float values[kQuantBlock];
  for (int i = 0; i < kQuantBlock; ++i) values[i] = static_cast<float>(block.value[i]);
  for (int i = 0; i < kBlockVectors; ++i) out[i] = load(values + i * kLanes);
}

inline void nibble_integers(const uint8_t* nibbles, float first, Floats (&out)[kBlockVectors]) {
  float values[kQuantBlock];
  for (int i = 0; i < 16; ++i) {
    values[i] = static_cast<float>(nibbles[i] & 15) + first;
    values[i + 16] = static_cast<float>(nibbles[i] >> 4) + first;
  }
  for (int i = 0; i < kBlockVectors; ++i) out[i] = load(values + i * kLanes);
}

inline Floats load_halves(const float16* p) {
  float values[kLanes];
  for (int i = 0; i < kLanes; ++i) values[i] = static_cast<float>(p[i]);
  return load(values);
}

#endif

inline void block_integers(const BlockQ4_0& block, Floats (&out)[kBlockVectors]) {
  nibble_integers(block.nibbles, -8.0f, out);
}
inline void block_integers(const BlockQ4_1& block, Floats (&out)[kBlockVectors]) {
  nibble_integers(block.nibbles, 0.0f, out);
}

}  // namespace ondol::cpu::ONDOL_ISA
