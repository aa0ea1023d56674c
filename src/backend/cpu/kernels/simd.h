// A small SIMD layer: one float vector of the width of the instruction set, the same names for each.
//
//   Floats total = splat(0.0f);
//   for_each_vector(count, [&](int64_t i, auto n) { total = total + exp(load_lanes(x + i, n)); });
//   float sum = reduce_sum(total);
//
// From the file of the instruction set: Floats (kLanes of them), Mask; splat; load, store of float and bfloat16
// (rounded to nearest even, NaN kept), load_n, store_n of the first n lanes (the other lanes read as 0); + - * / fma
// min max sqrt abs round copysign reciprocal; < > >= == is_nan select any; scale_by_power_of_two, split_exponent;
// reduce_sum, reduce_max in a fixed order; Counters and leading_bits for random words. min and max give their second
// operand when one is NaN.
//
// Here: exp, log, tanh, erf, sigmoid. The polynomials are minimax fits of this project (relative error below 1e-8
// before rounding); the errors stated are the largest seen against double over all exponents
// (tests/backend/simd_test.cpp).
#pragma once

#if defined(ONDOL_ISA_avx512) || defined(ONDOL_ISA_amx)
#include "backend/cpu/kernels/simd_avx512.h"
#elif defined(ONDOL_ISA_avx2)
#include "backend/cpu/kernels/simd_avx2.h"
#else
#include "backend/cpu/kernels/simd_portable.h"
#endif

namespace ondol::cpu::ONDOL_ISA {

/// The number of lanes in use: a compile-time "all of them" for whole vectors, a count for the tail.
struct AllLanes {};
struct SomeLanes {
  int64_t count;
};

template <class T>
inline Floats load_lanes(const T* p, AllLanes) {
  return load(p);
}
template <class T>
inline Floats load_lanes(const T* p, SomeLanes n) {
  return load_n(p, n.count);
}
template <class T>
inline void store_lanes(T* p, Floats a, AllLanes) {
  store(p, a);
}
template <class T>
inline void store_lanes(T* p, Floats a, SomeLanes n) {
  store_n(p, a, n.count);
}
/// The lanes in use of a, `other` in the rest (the neutral element of a reduction).
inline Floats keep_lanes(Floats a, Floats, AllLanes) { return a; }
inline Floats keep_lanes(Floats a, Floats other, SomeLanes n) { return select(first_lanes(n.count), a, other); }

/// body(i, lanes) for the whole vectors of [begin, end) and then for the tail.
template <class Body>
inline void for_each_vector(int64_t begin, int64_t end, Body&& body) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, AllLanes{});
  if (i < end) body(i, SomeLanes{end - i});
}
template <class Body>
inline void for_each_vector(int64_t count, Body&& body) {
  for_each_vector(0, count, static_cast<Body&&>(body));
}

/// c[0] + c[1] x + c[2] x^2 + ... by Horner's rule.
template <int N>
inline Floats polynomial(Floats x, const float (&c)[N]) {
  Floats sum = splat(c[N - 1]);
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, splat(c[i]));
  return sum;
}

/// 1 ulp. Infinity beyond 88.73, 0 below -104, subnormal results in between; NaN stays.
inline Floats exp(Floats x) {
  constexpr float kTaylorTail[] = {0.49999994f, 0.166665211f, 0.041668389f, 0.00836871099f, 0.00138146104f};
  x = min(splat(89.0f), max(splat(-105.0f), x));
  const Floats n = round(x * splat(1.44269504f));
  Floats r = fma(n, splat(-0.693147182f), x);
  r = fma(n, splat(1.90465430e-9f), r);
  const Floats excess = fma(r * r, polynomial(r, kTaylorTail), r);
  return scale_by_power_of_two(splat(1.0f) + excess, n);
}

/// 1 ulp. -infinity at 0, NaN below.
inline Floats log(Floats x) {
  constexpr float kTaylorTail[] = {0.333333313f, -0.250008225f, 0.200012267f, -0.16623354f,
                                   0.142017439f, -0.131602079f, 0.127617002f, -0.0763458759f};
  Floats exponent;
  Floats mantissa = split_exponent(x, exponent);
  const Mask high = mantissa > splat(1.41421356f);
  mantissa = select(high, mantissa * splat(0.5f), mantissa);
  exponent = select(high, exponent + splat(1.0f), exponent);
  const Floats f = mantissa - splat(1.0f);
  const Floats square = f * f;
  // ln 2 in two parts, the first short enough that its product with an exponent is exact.
  Floats small = fma(square * f, polynomial(f, kTaylorTail), exponent * splat(-2.12194440e-4f));
  small = fma(square, splat(-0.5f), small);
  Floats result = fma(exponent, splat(0.693359375f), f + small);
  const Floats infinity = splat(__builtin_inff());
  result = select(x == infinity, infinity, result);
  result = select(x == splat(0.0f), splat(-__builtin_inff()), result);
  return select((x < splat(0.0f)) | is_nan(x), splat(__builtin_nanf("")), result);
}

/// 1.4 ulp.
inline Floats tanh(Floats x) {
  constexpr float kOddTail[] = {-0.333332747f, 0.133312747f, -0.0537251271f, 0.0205898266f, -0.00564831635f};
  const Floats square = x * x;
  const Floats near_zero = fma(x * square, polynomial(square, kOddTail), x);
  const Floats magnitude = abs(x);
  const Floats bounded = min(splat(20.0f), magnitude + magnitude);  // beyond, the result is 1
  const Floats far = fma(splat(-2.0f), reciprocal(exp(bounded) + splat(1.0f)), splat(1.0f));
  return select(magnitude < splat(0.625f), near_zero, copysign(far, x));
}

/// 2.5 ulp; what lies below e^-87 is taken for that.
inline Floats sigmoid(Floats x) { return reciprocal(splat(1.0f) + exp(min(splat(87.0f), splat(0.0f) - x))); }

}  // namespace ondol::cpu::ONDOL_ISA
