// Activation functions on vectors, with their derivatives: each has value(x) and derivative(x).
#pragma once

#include "backend/cpu/kernels/simd.h"
#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

struct Relu {
  static Floats value(Floats x) { return max(splat(0.0f), x); }  // NaN stays
  static Floats derivative(Floats x) { return select(x > splat(0.0f), splat(1.0f), splat(0.0f)); }
};

/// x Phi(x), Phi the distribution function of the standard normal.
struct GeluErf {
  static Floats cdf(Floats x) { return fma(splat(0.5f), erf(x * splat(0.707106781f)), splat(0.5f)); }
  static Floats value(Floats x) { return x * cdf(x); }
  static Floats derivative(Floats x) {
    const Floats density = exp(x * x * splat(-0.5f)) * splat(0.398942280f);
    return fma(x, density, cdf(x));
  }
};

/// x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3); and (1 + tanh(u)) / 2 = sigmoid(2u).
struct GeluTanh {
  static constexpr float kTwiceSqrt2OverPi = 1.59576912f;
  static Floats gate(Floats x) {
    const Floats inner = fma(x * x, splat(0.044715f * kTwiceSqrt2OverPi), splat(kTwiceSqrt2OverPi));
    return sigmoid(x * inner);
  }
  static Floats value(Floats x) { return x * gate(x); }
  static Floats derivative(Floats x) {
    const Floats s = gate(x);
    const Floats slope = fma(x * x, splat(3.0f * 0.044715f * kTwiceSqrt2OverPi), splat(kTwiceSqrt2OverPi));
    return fma(x * slope, s * (splat(1.0f) - s), s);
  }
};

struct Silu {
  static Floats value(Floats x) { return x * sigmoid(x); }
  static Floats derivative(Floats x) {
    const Floats s = sigmoid(x);
    return s * fma(x, splat(1.0f) - s, splat(1.0f));
  }
};

struct Tanh {
  static Floats value(Floats x) { return tanh(x); }
  static Floats derivative(Floats x) {
    const Floats y = tanh(x);
    return fma(splat(0.0f) - y, y, splat(1.0f));
  }
};

struct Sigmoid {
  static Floats value(Floats x) { return sigmoid(x); }
  static Floats derivative(Floats x) {
    const Floats s = sigmoid(x);
    return s * (splat(1.0f) - s);
  }
};

}  // namespace ondol::cpu::ONDOL_ISA
