// f16 conversion of the CUDA headers, for the host compiler.
#pragma once

#include <ondol/base/dtype.h>

using __half = ondol::float16;
inline __half __float2half_rn(float value) { return ondol::float16(value); }
inline float __half2float(__half value) { return static_cast<float>(value); }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(unsigned short bits) {
  __half out;
  out.bits = bits;
  return out;
}
