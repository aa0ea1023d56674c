// Error of a float in units in the last place of the exact value.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace ondol {

inline double ulp_error(float got, double exact) {
  if (std::isnan(exact) || std::isinf(static_cast<float>(exact))) {
    return std::isnan(exact) ? (std::isnan(got) ? 0.0 : 1e9) : (got == static_cast<float>(exact) ? 0.0 : 1e9);
  }
  int exponent = 0;
  std::frexp(std::max(std::abs(exact), 0x1p-126), &exponent);
  return std::abs(static_cast<double>(got) - exact) / std::ldexp(1.0, exponent - 24);
}

/// Floats spread over all bit patterns: every exponent and sign, infinities and NaN.
template <class Visit>
void for_each_spread_float(const Visit& visit) {
  constexpr uint64_t kStep = 4099;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += kStep) {
    visit(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (const uint32_t bits :
       {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x80000000u, 0x7f7fffffu, 0xff7fffffu, 0x7fffffffu}) {
    visit(std::bit_cast<float>(bits));
  }
}

}  // namespace ondol
