// The vector type where there are no intrinsics: 4 floats in GCC's vector extension (NEON on arm64). See simd.h.
#pragma once

#include <cstdint>
#include <cstring>

#include <ondol/base/dtype.h>

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int kLanes = 4;

typedef float FloatLanes __attribute__((vector_size(16)));
typedef int32_t IntLanes __attribute__((vector_size(16)));

struct Floats {
  FloatLanes v;
};
struct Mask {
  IntLanes v;
};

inline Floats splat(float x) { return {FloatLanes{x, x, x, x}}; }
inline IntLanes splat_int(int32_t x) { return IntLanes{x, x, x, x}; }
inline IntLanes bits_of(Floats a) { return reinterpret_cast<IntLanes>(a.v); }
inline Floats floats_of(IntLanes bits) { return {reinterpret_cast<FloatLanes>(bits)}; }

inline Floats load_n(const float* p, int64_t n) {
  Floats a = splat(0.0f);
  std::memcpy(&a.v, p, static_cast<size_t>(n) * sizeof(float));
  return a;
}
inline Floats load(const float* p) { return load_n(p, kLanes); }
inline void store_n(float* p, Floats a, int64_t n) { std::memcpy(p, &a.v, static_cast<size_t>(n) * sizeof(float)); }
inline void store(float* p, Floats a) { store_n(p, a, kLanes); }

inline Floats load_n(const bfloat16* p, int64_t n) {
  uint16_t bits[kLanes] = {};
  std::memcpy(bits, p, static_cast<size_t>(n) * sizeof(bfloat16));
  IntLanes wide;
  for (int i = 0; i < kLanes; ++i) wide[i] = static_cast<int32_t>(static_cast<uint32_t>(bits[i]) << 16);
  return floats_of(wide);
}
inline Floats load(const bfloat16* p) { return load_n(p, kLanes); }
inline void store_n(bfloat16* p, Floats a, int64_t n) {
  typedef uint32_t UnsignedLanes __attribute__((vector_size(16)));
  const UnsignedLanes bits = reinterpret_cast<UnsignedLanes>(a.v);
  const UnsignedLanes rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const UnsignedLanes kept = (a.v != a.v) ? (bits | 0x400000u) : rounded;
  uint16_t narrow[kLanes];
  for (int i = 0; i < kLanes; ++i) narrow[i] = static_cast<uint16_t>(kept[i] >> 16);
  std::memcpy(static_cast<void*>(p), narrow, static_cast<size_t>(n) * sizeof(bfloat16));
}
inline void store(bfloat16* p, Floats a) { store_n(p, a, kLanes); }

inline Floats operator+(Floats a, Floats b) { return {a.v + b.v}; }
inline Floats operator-(Floats a, Floats b) { return {a.v - b.v}; }
inline Floats operator*(Floats a, Floats b) { return {a.v * b.v}; }
inline Floats operator/(Floats a, Floats b) { return {a.v / b.v}; }
inline Floats fma(Floats a, Floats b, Floats c) {
  for (int i = 0; i < kLanes; ++i) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
}
inline Floats min(Floats a, Floats b) { return {a.v < b.v ? a.v : b.v}; }
inline Floats max(Floats a, Floats b) { return {a.v > b.v ? a.v : b.v}; }
inline Floats sqrt(Floats a) {
  for (int i = 0; i < kLanes; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
inline Floats abs(Floats a) { return floats_of(bits_of(a) & splat_int(0x7fffffff)); }
inline Floats round(Floats a) {
  for (int i = 0; i < kLanes; ++i) a.v[i] = __builtin_rintf(a.v[i]);
  return a;
}
inline Floats copysign(Floats magnitude, Floats sign) {
  return floats_of((bits_of(magnitude) & splat_int(0x7fffffff)) | (bits_of(sign) & ~splat_int(0x7fffffff)));
}

inline Mask operator<(Floats a, Floats b) { return {a.v < b.v}; }
inline Mask operator>(Floats a, Floats b) { return {a.v > b.v}; }
inline Mask operator>=(Floats a, Floats b) { return {a.v >= b.v}; }
inline Mask operator==(Floats a, Floats b) { return {a.v == b.v}; }
inline Mask is_nan(Floats a) { return {a.v != a.v}; }
inline Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
inline Floats select(Mask mask, Floats yes, Floats no) { return {mask.v ? yes.v : no.v}; }
inline Mask first_lanes(int64_t n) { return {IntLanes{0, 1, 2, 3} < splat_int(static_cast<int32_t>(n))}; }
inline bool any(Mask mask) { return (mask.v[0] | mask.v[1] | mask.v[2] | mask.v[3]) != 0; }

inline Floats reciprocal(Floats a) { return splat(1.0f) / a; }

/// a * 2^n for integral n in [-300, 300]; overflows to infinity and underflows through the subnormals. In two steps,
/// because one factor holds only exponents of normal numbers.
inline Floats scale_by_power_of_two(Floats a, Floats n) {
  // A NaN in n has no integer; it is in a as well, so any factor will do.
  const IntLanes whole = __builtin_convertvector(select(is_nan(n), splat(0.0f), n).v, IntLanes);
  const IntLanes first = whole >> 1;
  const IntLanes second = whole - first;
  return a * floats_of((first + 127) << 23) * floats_of((second + 127) << 23);
}

/// a = mantissa * 2^exponent with 1 <= mantissa < 2, for positive finite a.
inline Floats split_exponent(Floats a, Floats& exponent) {
  const Mask subnormal = a < splat(1.17549435e-38f);
  const Floats normal = select(subnormal, a * splat(33554432.0f), a);
  const IntLanes biased = (bits_of(normal) >> 23) & 0xff;
  exponent = Floats{__builtin_convertvector(biased - 127, FloatLanes)} - select(subnormal, splat(25.0f), splat(0.0f));
  return floats_of((bits_of(normal) & 0x7fffff) | 0x3f800000);
}

/// Two counters of 64 bits, for the random generator.
inline constexpr int kCounters = 2;
typedef uint64_t CounterLanes __attribute__((vector_size(16)));
struct Counters {
  CounterLanes v;
};
inline Counters splat_counter(uint64_t x) { return {CounterLanes{x, x}}; }
inline Counters count_from(uint64_t first) { return {CounterLanes{first, first + 1}}; }
/// The 64-bit product of the lower 32 bits.
inline Counters multiply_low(Counters a, Counters b) { return {(a.v & 0xffffffffu) * (b.v & 0xffffffffu)}; }
inline Counters upper_word(Counters a) { return {a.v >> 32}; }
inline Counters operator^(Counters a, Counters b) { return {a.v ^ b.v}; }
/// The lower words in the order a0 b0 c0 d0 a1 b1 c1 d1 ...
inline void store_blocks(uint32_t* out, Counters a, Counters b, Counters c, Counters d) {
  for (int i = 0; i < kCounters; ++i) {
    out[4 * i] = static_cast<uint32_t>(a.v[i]);
    out[4 * i + 1] = static_cast<uint32_t>(b.v[i]);
    out[4 * i + 2] = static_cast<uint32_t>(c.v[i]);
    out[4 * i + 3] = static_cast<uint32_t>(d.v[i]);
  }
}

/// The leading 24 bits of each word, as a whole number.
inline Floats leading_bits(const uint32_t* words) {
  Floats out = splat(0.0f);
  for (int i = 0; i < kLanes; ++i) out.v[i] = static_cast<float>(words[i] >> 8);
  return out;
}

/// The sum of all lanes: halves are added until one is left.
inline float reduce_sum(Floats a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
inline float reduce_max(Floats a) {
  const float left = a.v[0] > a.v[2] ? a.v[0] : a.v[2];
  const float right = a.v[1] > a.v[3] ? a.v[1] : a.v[3];
  return left > right ? left : right;
}

}  // namespace ondol::cpu::ONDOL_ISA
