// bf16 conversion of the CUDA headers, for the host compiler.
#pragma once

#include <ondol/base/dtype.h>

using __nv_bfloat16 = ondol::bfloat16;
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return ondol::bfloat16(value); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
