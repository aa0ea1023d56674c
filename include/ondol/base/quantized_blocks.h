// Weights in blocks of 32 small integers with a common scale: Q8_0, Q4_0 and Q4_1 exactly as GGML lays them out and GGUF
// files hold them (ggml/src/ggml-common.h, ggml-quants.c: the quantize_row_*_ref functions).
//
//   std::vector<uint8_t> row(quantized_row_bytes(QuantFormat::q4_0, 576));
//   quantize_row(QuantFormat::q4_0, weights, 576, row.data());
//   dequantize_row(QuantFormat::q4_0, row.data(), 576, back);
//
// Scales are f16. Rows are whole blocks: a count that is no multiple of 32 throws, as do values that are not finite.
#pragma once

#include <cstdint>
#include <string>

#include <ondol/base/dtype.h>

namespace ondol {

enum class QuantFormat : int { q8_0, q4_0, q4_1 };

inline constexpr int64_t kQuantBlock = 32;  // weights

/// weight i = scale * value[i]; scale = largest magnitude / 127.
struct BlockQ8_0 {
  float16 scale;
  int8_t value[32];
};

/// weight i = scale * (nibble i - 8); scale = (the value of largest magnitude) / -8. Byte i holds nibble i in its lower
/// half and nibble i + 16 in its upper one.
struct BlockQ4_0 {
  float16 scale;
  uint8_t nibbles[16];
};

/// weight i = scale * nibble i + minimum; scale = (maximum - minimum) / 15. Nibbles as in Q4_0.
struct BlockQ4_1 {
  float16 scale;
  float16 minimum;
  uint8_t nibbles[16];
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);

constexpr int64_t quant_block_bytes(QuantFormat format) {
  return format == QuantFormat::q8_0 ? sizeof(BlockQ8_0)
                                     : format == QuantFormat::q4_0 ? sizeof(BlockQ4_0) : sizeof(BlockQ4_1);
}

/// Bytes of a row of `count` weights; throws Error when count is no multiple of 32.
int64_t quantized_row_bytes(QuantFormat format, int64_t count);

/// "q8_0", "q4_0", "q4_1".
const char* quant_format_name(QuantFormat format);
/// The inverse, in either case. Throws UsageError.
QuantFormat quant_format_from_name(const std::string& name);

void quantize_row(QuantFormat format, const float* in, int64_t count, void* out);
void dequantize_row(QuantFormat format, const void* in, int64_t count, float* out);

}  // namespace ondol
