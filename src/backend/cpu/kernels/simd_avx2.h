// The vector type for AVX2 with FMA: 8 floats. See simd.h.
#pragma once

#include <cstdint>
#include <cstring>

#include <immintrin.h>

#include <ondol/base/dtype.h>

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int kLanes = 8;

struct Floats {
  __m256 v;
};
struct Mask {
  __m256 v;
};

inline Floats splat(float x) { return {_mm256_set1_ps(x)}; }
inline __m256i lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
inline Mask first_lanes(int64_t n) {
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane_numbers()))};
}

inline Floats load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Floats load_n(const float* p, int64_t n) {
  return {_mm256_maskload_ps(p, _mm256_castps_si256(first_lanes(n).v))};
}
inline void store(float* p, Floats a) { _mm256_storeu_ps(p, a.v); }
inline void store_n(float* p, Floats a, int64_t n) {
  _mm256_maskstore_ps(p, _mm256_castps_si256(first_lanes(n).v), a.v);
}

inline __m256 widen_bf16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline __m128i narrow_bf16(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
}
inline Floats load(const bfloat16* p) { return {widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
inline void store(bfloat16* p, Floats a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(a.v)); }
inline Floats load_n(const bfloat16* p, int64_t n) {
  alignas(16) uint16_t bits[kLanes] = {};
  std::memcpy(bits, p, static_cast<size_t>(n) * sizeof(bfloat16));
  return {widen_bf16(_mm_load_si128(reinterpret_cast<const __m128i*>(bits)))};
}
inline void store_n(bfloat16* p, Floats a, int64_t n) {
  alignas(16) uint16_t bits[kLanes];
  _mm_store_si128(reinterpret_cast<__m128i*>(bits), narrow_bf16(a.v));
  std::memcpy(static_cast<void*>(p), bits, static_cast<size_t>(n) * sizeof(bfloat16));
}

inline Floats operator+(Floats a, Floats b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Floats operator-(Floats a, Floats b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Floats operator*(Floats a, Floats b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Floats operator/(Floats a, Floats b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Floats fma(Floats a, Floats b, Floats c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Floats min(Floats a, Floats b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Floats max(Floats a, Floats b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Floats sqrt(Floats a) { return {_mm256_sqrt_ps(a.v)}; }
inline __m256 sign_bits() { return _mm256_set1_ps(-0.0f); }
inline Floats abs(Floats a) { return {_mm256_andnot_ps(sign_bits(), a.v)}; }
inline Floats round(Floats a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Floats copysign(Floats magnitude, Floats sign) {
  return {_mm256_or_ps(_mm256_andnot_ps(sign_bits(), magnitude.v), _mm256_and_ps(sign_bits(), sign.v))};
}

inline Mask operator<(Floats a, Floats b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask operator>(Floats a, Floats b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ)}; }
inline Mask operator>=(Floats a, Floats b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_GE_OQ)}; }
inline Mask operator==(Floats a, Floats b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
inline Mask is_nan(Floats a) { return {_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)}; }
inline Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
inline Floats select(Mask mask, Floats yes, Floats no) { return {_mm256_blendv_ps(no.v, yes.v, mask.v)}; }
inline bool any(Mask mask) { return _mm256_movemask_ps(mask.v) != 0; }

inline Floats reciprocal(Floats a) { return splat(1.0f) / a; }

/// a * 2^n for integral n in [-300, 300]; overflows to infinity and underflows through the subnormals. In two steps,
/// because one factor holds only exponents of normal numbers.
inline Floats scale_by_power_of_two(Floats a, Floats n) {
  const __m256i whole = _mm256_cvtps_epi32(n.v);
  const __m256i first = _mm256_srai_epi32(whole, 1);
  const __m256i second = _mm256_sub_epi32(whole, first);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 factor1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(first, bias), 23));
  const __m256 factor2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(second, bias), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, factor1), factor2)};
}

/// a = mantissa * 2^exponent with 1 <= mantissa < 2, for positive finite a.
inline Floats split_exponent(Floats a, Floats& exponent) {
  const Mask subnormal = a < splat(1.17549435e-38f);
  const Floats normal = select(subnormal, a * splat(33554432.0f), a);
  const __m256i bits = _mm256_castps_si256(normal.v);
  const __m256i biased = _mm256_and_si256(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(0xff));
  exponent = Floats{_mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)))} -
             select(subnormal, splat(25.0f), splat(0.0f));
  const __m256i fraction = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffff));
  return {_mm256_castsi256_ps(_mm256_or_si256(fraction, _mm256_set1_epi32(0x3f800000)))};
}

/// Four counters of 64 bits, for the random generator.
inline constexpr int kCounters = 4;
struct Counters {
  __m256i v;
};
inline Counters splat_counter(uint64_t x) { return {_mm256_set1_epi64x(static_cast<int64_t>(x))}; }
inline Counters count_from(uint64_t first) {
  return {_mm256_add_epi64(_mm256_set1_epi64x(static_cast<int64_t>(first)), _mm256_setr_epi64x(0, 1, 2, 3))};
}
/// The 64-bit product of the lower 32 bits.
inline Counters multiply_low(Counters a, Counters b) { return {_mm256_mul_epu32(a.v, b.v)}; }
inline Counters upper_word(Counters a) { return {_mm256_srli_epi64(a.v, 32)}; }
inline Counters operator^(Counters a, Counters b) { return {_mm256_xor_si256(a.v, b.v)}; }
/// The lower words in the order a0 b0 c0 d0 a1 b1 c1 d1 ...
inline void store_blocks(uint32_t* out, Counters a, Counters b, Counters c, Counters d) {
  const __m256i ab = _mm256_blend_epi32(a.v, _mm256_slli_epi64(b.v, 32), 0xaa);
  const __m256i cd = _mm256_blend_epi32(c.v, _mm256_slli_epi64(d.v, 32), 0xaa);
  const __m256i even = _mm256_unpacklo_epi64(ab, cd), odd = _mm256_unpackhi_epi64(ab, cd);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 8), _mm256_permute2x128_si256(even, odd, 0x31));
}

/// The leading 24 bits of each word, as a whole number.
inline Floats leading_bits(const uint32_t* words) {
  const __m256i loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words));
  return {_mm256_cvtepi32_ps(_mm256_srli_epi32(loaded, 8))};
}

/// The sum of all lanes: halves are added until one is left.
inline float reduce_sum(Floats a) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
inline float reduce_max(Floats a) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

}  // namespace ondol::cpu::ONDOL_ISA
