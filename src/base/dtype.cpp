#include <ondol/base/dtype.h>

#include <array>
#include <cmath>
#include <utility>

#include <ondol/base/error.h>

namespace ondol {

namespace {
constexpr std::array<const char*, kNumDTypes> kNames = {"f32", "bf16", "f16", "f64", "i64",
                                                        "i32", "i16",  "i8",  "u8",  "bool"};
constexpr std::array<std::pair<const char*, DType>, 5> kAliases = {{{"float32", DType::f32},
                                                                    {"fp32", DType::f32},
                                                                    {"bfloat16", DType::bf16},
                                                                    {"float16", DType::f16},
                                                                    {"float64", DType::f64}}};
}  // namespace

const char* dtype_name(DType dtype) { return kNames[static_cast<size_t>(dtype)]; }

DType dtype_from_name(const std::string& name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name == kNames[i]) return static_cast<DType>(i);
  }
  for (const auto& [alias, dtype] : kAliases) {
    if (name == alias) return dtype;
  }
  throw UsageError(concat("unknown dtype \"", name, "\""), "use f32 or bf16");
}

float16::float16(float value) {
  const uint32_t u = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    bits = sign | 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
    bits = sign | 0x7c00u;
  } else if (magnitude < 0x38800000u) {  // subnormal: let the FPU round at the 2^-24 grid
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    bits = static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  } else {
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    bits = static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
}

float16::operator float() const {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -value : value;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

}  // namespace ondol
