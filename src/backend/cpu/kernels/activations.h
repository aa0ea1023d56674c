// Activation functions on vectors, with their derivatives: each has value(x) and derivative(x).
#pragma once

#include "backend/cpu/kernels/simd.h"
#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

struct Relu {
  static Floats value(Floats x) { return max(splat(0.0f), x); }  // NaN stays
  static Floats derivative(Floats x) { return select(x > splat(0.0f), splat(1.0f), splat(0.0f)); }
};

/// x Phi(x), Phi the distribution function of the standard normal: 1 - Phi(t) = exp(-t Q(t)) / 2 for t >= 0, Q a
/// minimax fit on [0, 6] that keeps the absolute error of Phi below 1e-8 before rounding.
struct GeluErf {
  static Floats cdf(Floats x) {
    constexpr float kQ[] = {0.797885299f,    0.318298876f,   0.0363875777f,    -0.00489598978f,
                            9.49171372e-05f, 0.00012905027f, -2.72945272e-05f, 1.96501105e-06f};
    const Floats t = abs(x);
    const Floats tail = splat(0.5f) * exp((splat(0.0f) - t) * polynomial(min(splat(6.0f), t), kQ));
    return select(x > splat(0.0f), splat(1.0f) - tail, tail);
  }
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
