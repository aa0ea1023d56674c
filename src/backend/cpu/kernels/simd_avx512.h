// The vector type for AVX-512 (F, BW, DQ, VL): 16 floats. See simd.h.
#pragma once

#include <cstdint>

#include <immintrin.h>

#include <ondol/base/dtype.h>

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int kLanes = 16;

struct Floats {
  __m512 v;
};
struct Mask {
  __mmask16 v;
};

inline Floats splat(float x) { return {_mm512_set1_ps(x)}; }
inline Mask first_lanes(int64_t n) { return {static_cast<__mmask16>((1u << n) - 1u)}; }

inline Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Floats load_n(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first_lanes(n).v, p)}; }
inline void store(float* p, Floats a) { _mm512_storeu_ps(p, a.v); }
inline void store_n(float* p, Floats a, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n).v, a.v); }

inline __m512 widen_bf16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline __m256i narrow_bf16(__m512 a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
}
inline Floats load(const bfloat16* p) { return {widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))}; }
inline Floats load_n(const bfloat16* p, int64_t n) {
  return {widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n).v, p))};
}
inline void store(bfloat16* p, Floats a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(a.v)); }
inline void store_n(bfloat16* p, Floats a, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n).v, narrow_bf16(a.v));
}

inline Floats operator+(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Floats operator-(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Floats operator*(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Floats operator/(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Floats fma(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Floats min(Floats a, Floats b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Floats max(Floats a, Floats b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Floats sqrt(Floats a) { return {_mm512_sqrt_ps(a.v)}; }
inline Floats abs(Floats a) { return {_mm512_abs_ps(a.v)}; }
inline Floats round(Floats a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Floats copysign(Floats magnitude, Floats sign) {
  return {_mm512_or_ps(_mm512_abs_ps(magnitude.v), _mm512_and_ps(sign.v, _mm512_set1_ps(-0.0f)))};
}

inline Mask operator<(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask operator>(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask operator>=(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ)}; }
inline Mask operator==(Floats a, Floats b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
inline Mask is_nan(Floats a) { return {_mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q)}; }
inline Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }
inline Floats select(Mask mask, Floats yes, Floats no) { return {_mm512_mask_blend_ps(mask.v, no.v, yes.v)}; }
inline bool any(Mask mask) { return mask.v != 0; }

/// 1 / a for finite a whose inverse is finite, within 1 ulp: a third of the time of a division.
inline Floats reciprocal(Floats a) {
  const __m512 guess = _mm512_rcp14_ps(a.v);
  const __m512 rest = _mm512_fnmadd_ps(a.v, guess, _mm512_set1_ps(1.0f));
  return {_mm512_fmadd_ps(guess, rest, guess)};
}

/// a * 2^n for integral n; overflows to infinity and underflows through the subnormals.
inline Floats scale_by_power_of_two(Floats a, Floats n) { return {_mm512_scalef_ps(a.v, n.v)}; }

/// a = mantissa * 2^exponent with 1 <= mantissa < 2, for positive finite a.
inline Floats split_exponent(Floats a, Floats& exponent) {
  exponent.v = _mm512_getexp_ps(a.v);
  return {_mm512_getmant_ps(a.v, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero)};
}

/// Eight counters of 64 bits, for the random generator.
inline constexpr int kCounters = 8;
struct Counters {
  __m512i v;
};
inline Counters splat_counter(uint64_t x) { return {_mm512_set1_epi64(static_cast<int64_t>(x))}; }
inline Counters count_from(uint64_t first) {
  return {_mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(first)), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7))};
}
/// The 64-bit product of the lower 32 bits.
inline Counters multiply_low(Counters a, Counters b) { return {_mm512_mul_epu32(a.v, b.v)}; }
inline Counters upper_word(Counters a) { return {_mm512_srli_epi64(a.v, 32)}; }
inline Counters operator^(Counters a, Counters b) { return {_mm512_xor_si512(a.v, b.v)}; }
/// The lower words in the order a0 b0 c0 d0 a1 b1 c1 d1 ...
inline void store_blocks(uint32_t* out, Counters a, Counters b, Counters c, Counters d) {
  const __m512i ab = _mm512_mask_blend_epi32(0xaaaa, a.v, _mm512_slli_epi64(b.v, 32));
  const __m512i cd = _mm512_mask_blend_epi32(0xaaaa, c.v, _mm512_slli_epi64(d.v, 32));
  const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
                second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi64(ab, first, cd));
  _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64(ab, second, cd));
}

/// The leading 24 bits of each word, as a whole number.
inline Floats leading_bits(const uint32_t* words) {
  return {_mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_loadu_si512(words), 8))};
}

inline __m256 lower_half(__m512 a) { return _mm512_castps512_ps256(a); }
inline __m256 upper_half(__m512 a) { return _mm512_extractf32x8_ps(a, 1); }

/// The sum of all lanes: halves are added until one is left.
inline float reduce_sum(Floats a) {
  const __m256 eight = _mm256_add_ps(lower_half(a.v), upper_half(a.v));
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
inline float reduce_max(Floats a) {
  const __m256 eight = _mm256_max_ps(lower_half(a.v), upper_half(a.v));
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

}  // namespace ondol::cpu::ONDOL_ISA
