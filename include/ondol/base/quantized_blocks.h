// Weights in blocks of small integers with common scales, exactly as GGML lays them out and GGUF files hold them
// (ggml/src/ggml-common.h, ggml-quants.c: the quantize_row_*_ref and dequantize_row_* functions).
//
//   std::vector<uint8_t> row(quantized_row_bytes(QuantFormat::q4_0, 576));
//   quantize_row(QuantFormat::q4_0, weights, 576, row.data());
//   dequantize_row(QuantFormat::q4_0, row.data(), 576, back);
//
// Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 have blocks of 32 weights; Q4_K, Q5_K and Q6_K have super-blocks of 256, whose parts
// have small integers as scales. Rows are whole blocks: another count throws. Q8_0, Q4_0 and Q4_1 can be written too;
// values that are not finite throw.
#pragma once

#include <cstdint>
#include <string>

#include <ondol/base/dtype.h>

namespace ondol {

enum class QuantFormat : int { q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k };
inline constexpr int kNumQuantFormats = 8;

inline constexpr int64_t kQuantBlock = 32;        // weights
inline constexpr int64_t kQuantSuperBlock = 256;  // of Q4_K, Q5_K, Q6_K

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

/// weight i = scale * (q - 16), q = nibble i + 16 * bit i of `high` (the first byte holds bits 0 to 7).
struct BlockQ5_0 {
  float16 scale;
  uint8_t high[4];
  uint8_t nibbles[16];
};

/// weight i = scale * q + minimum, q as in Q5_0.
struct BlockQ5_1 {
  float16 scale;
  float16 minimum;
  uint8_t high[4];
  uint8_t nibbles[16];
};

/// Eight parts of 32: weight = scale * s[part] * nibble - minimum * m[part]. s and m have six bits each: for parts 0 to
/// 3 the lower six bits of scales[part] and scales[part + 4]; for the others the lower and upper half of
/// scales[part + 4], with the upper two bits of scales[part - 4] and scales[part] above them. Bytes 32 p to 32 p + 31
/// hold part 2 p in their lower halves and part 2 p + 1 in the upper ones.
struct BlockQ4_K {
  float16 scale;
  float16 minimum;
  uint8_t scales[12];
  uint8_t nibbles[128];
};

/// As Q4_K with q = nibble + 16 * bit `part` of high[i] for the weight i of a part.
struct BlockQ5_K {
  float16 scale;
  float16 minimum;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t nibbles[128];
};

/// Two halves of 128, each of eight parts of 16: weight = scale * scales[part] * (q - 32). Of a half's q, weight
/// 32 g + i has its lower four bits in byte 32 (g % 2) + i of low (lower half of the byte for g < 2) and bits 2 g and
/// 2 g + 1 of high[i] above them.
struct BlockQ6_K {
  uint8_t low[128];
  uint8_t high[64];
  int8_t scales[16];
  float16 scale;
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);

/// Weights of a block: 32, or 256 for the formats with super-blocks.
constexpr int64_t quant_block_size(QuantFormat format) {
  return format >= QuantFormat::q4_k ? kQuantSuperBlock : kQuantBlock;
}

constexpr int64_t quant_block_bytes(QuantFormat format) {
  constexpr int64_t kBytes[kNumQuantFormats] = {sizeof(BlockQ8_0), sizeof(BlockQ4_0), sizeof(BlockQ4_1),
                                                sizeof(BlockQ5_0), sizeof(BlockQ5_1), sizeof(BlockQ4_K),
                                                sizeof(BlockQ5_K), sizeof(BlockQ6_K)};
  return kBytes[static_cast<int>(format)];
}

/// True for the formats that quantize_row writes.
constexpr bool can_quantize(QuantFormat format) { return format <= QuantFormat::q4_1; }

/// Bytes of a row of `count` weights; throws Error when count is no multiple of the block.
int64_t quantized_row_bytes(QuantFormat format, int64_t count);

/// "q8_0", "q4_k" and so on.
const char* quant_format_name(QuantFormat format);
/// The inverse, in either case. Throws UsageError.
QuantFormat quant_format_from_name(const std::string& name);

void quantize_row(QuantFormat format, const float* in, int64_t count, void* out);
void dequantize_row(QuantFormat format, const void* in, int64_t count, float* out);

}  // namespace ondol
