#include <ondol/base/quantized_blocks.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include <ondol/base/error.h>

namespace ondol {

namespace {

constexpr const char* kNames[kNumQuantFormats] = {"q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"};

/// 1 / scale, and 0 where that is no number: such a scale is 0 as f16.
float inverse_of(float scale) {
  const float inverse = 1.0f / scale;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

float16 checked_half(QuantFormat format, float value) {
  const float16 half(value);
  ONDOL_CHECK(std::isfinite(static_cast<float>(half)), "[quantize] ", quant_format_name(format), " cannot hold scale ",
              value);
  return half;
}

/// x rounded down after the offset was added, as GGML does, and at most 15.
uint8_t nibble(float x, float offset) { return static_cast<uint8_t>(std::min(15, static_cast<int>(x + offset))); }

uint8_t two_nibbles(float low, float high, float offset) {
  return static_cast<uint8_t>(nibble(low, offset) | nibble(high, offset) << 4);
}

void quantize(const float* in, BlockQ8_0& block) {
  float largest = 0.0f;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(in[i]));
  const float scale = largest / 127.0f, inverse = inverse_of(scale);
  block.scale = checked_half(QuantFormat::q8_0, scale);
  for (int i = 0; i < 32; ++i) block.value[i] = static_cast<int8_t>(std::round(in[i] * inverse));
}

void quantize(const float* in, BlockQ4_0& block) {
  float extreme = 0.0f;
  for (int i = 0; i < 32; ++i) {
    if (std::abs(in[i]) > std::abs(extreme)) extreme = in[i];
  }
  const float scale = extreme / -8.0f, inverse = inverse_of(scale);
  block.scale = checked_half(QuantFormat::q4_0, scale);
  for (int i = 0; i < 16; ++i) block.nibbles[i] = two_nibbles(in[i] * inverse, in[i + 16] * inverse, 8.5f);
}

void quantize(const float* in, BlockQ4_1& block) {
  const auto [low, high] = std::minmax_element(in, in + 32);
  const float minimum = *low, scale = (*high - minimum) / 15.0f, inverse = inverse_of(scale);
  block.scale = checked_half(QuantFormat::q4_1, scale);
  block.minimum = checked_half(QuantFormat::q4_1, minimum);
  for (int i = 0; i < 16; ++i) {
    block.nibbles[i] = two_nibbles((in[i] - minimum) * inverse, (in[i + 16] - minimum) * inverse, 0.5f);
  }
}

void dequantize(const BlockQ8_0& block, float* out) {
  const float scale = static_cast<float>(block.scale);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(block.value[i]);
}

void dequantize(const BlockQ4_0& block, float* out) {
  const float scale = static_cast<float>(block.scale);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>((block.nibbles[i] & 15) - 8);
    out[i + 16] = scale * static_cast<float>((block.nibbles[i] >> 4) - 8);
  }
}

void dequantize(const BlockQ4_1& block, float* out) {
  const float scale = static_cast<float>(block.scale), minimum = static_cast<float>(block.minimum);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(block.nibbles[i] & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(block.nibbles[i] >> 4) + minimum;
  }
}

int five_bits(const uint8_t (&nibbles)[16], const uint8_t (&high)[4], int i) {
  const int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
  return low | (high[i / 8] >> (i % 8) & 1) << 4;
}

void dequantize(const BlockQ5_0& block, float* out) {
  const float scale = static_cast<float>(block.scale);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(five_bits(block.nibbles, block.high, i) - 16);
}

void dequantize(const BlockQ5_1& block, float* out) {
  const float scale = static_cast<float>(block.scale), minimum = static_cast<float>(block.minimum);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(five_bits(block.nibbles, block.high, i)) + minimum;
}

/// Scale and minimum of one part of a Q4_K or Q5_K block.
template <class Block>
std::pair<float, float> part_scales(const Block& block, int part) {
  const uint8_t* s = block.scales;
  const int scale = part < 4 ? s[part] & 63 : (s[part + 4] & 15) | s[part - 4] >> 6 << 4;
  const int minimum = part < 4 ? s[part + 4] & 63 : s[part + 4] >> 4 | s[part] >> 6 << 4;
  return {static_cast<float>(block.scale) * static_cast<float>(scale),
          static_cast<float>(block.minimum) * static_cast<float>(minimum)};
}

int part_nibble(const uint8_t (&nibbles)[128], int part, int i) {
  const uint8_t byte = nibbles[part / 2 * 32 + i];
  return part % 2 == 0 ? byte & 15 : byte >> 4;
}

void dequantize(const BlockQ4_K& block, float* out) {
  for (int part = 0; part < 8; ++part) {
    const auto [scale, minimum] = part_scales(block, part);
    for (int i = 0; i < 32; ++i) {
      out[part * 32 + i] = scale * static_cast<float>(part_nibble(block.nibbles, part, i)) - minimum;
    }
  }
}

void dequantize(const BlockQ5_K& block, float* out) {
  for (int part = 0; part < 8; ++part) {
    const auto [scale, minimum] = part_scales(block, part);
    for (int i = 0; i < 32; ++i) {
      const int q = part_nibble(block.nibbles, part, i) | (block.high[i] >> part & 1) << 4;
      out[part * 32 + i] = scale * static_cast<float>(q) - minimum;
    }
  }
}

void dequantize(const BlockQ6_K& block, float* out) {
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, group = i % 128 / 32, lane = i % 32;
    const uint8_t byte = block.low[64 * half + 32 * (group % 2) + lane];
    const int low = group < 2 ? byte & 15 : byte >> 4;
    const int q = (low | (block.high[32 * half + lane] >> (2 * group) & 3) << 4) - 32;
    out[i] = static_cast<float>(block.scale) * static_cast<float>(block.scales[i / 16]) * static_cast<float>(q);
  }
}

template <class Block>
void quantize_blocks(const float* in, int64_t count, void* out) {
  for (int64_t i = 0; i < count / kQuantBlock; ++i) quantize(in + i * kQuantBlock, static_cast<Block*>(out)[i]);
}

template <class Block>
void dequantize_blocks(const void* in, int64_t count, float* out) {
  constexpr int64_t kSize = sizeof(Block) >= sizeof(BlockQ4_K) ? kQuantSuperBlock : kQuantBlock;
  for (int64_t i = 0; i < count / kSize; ++i) dequantize(static_cast<const Block*>(in)[i], out + i * kSize);
}

}  // namespace

int64_t quantized_row_bytes(QuantFormat format, int64_t count) {
  const int64_t size = quant_block_size(format);
  ONDOL_CHECK(count >= 0 && count % size == 0, "[quantize] ", quant_format_name(format), " rows of ", count,
              " weights: a multiple of ", size, " is needed");
  return count / size * quant_block_bytes(format);
}

const char* quant_format_name(QuantFormat format) { return kNames[static_cast<int>(format)]; }

QuantFormat quant_format_from_name(const std::string& name) {
  std::string lower = name;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  std::string known;
  for (int i = 0; i < kNumQuantFormats; ++i) {
    if (lower == kNames[i]) return static_cast<QuantFormat>(i);
    known += concat(i > 0 ? ", " : "", kNames[i]);
  }
  throw UsageError(concat("unknown quantised format \"", name, "\""), "known: " + known);
}

void quantize_row(QuantFormat format, const float* in, int64_t count, void* out) {
  quantized_row_bytes(format, count);
  for (int64_t i = 0; i < count; ++i) {
    ONDOL_CHECK(std::isfinite(in[i]), "[quantize] weight ", i, " of a row is not finite");
  }
  switch (format) {
    case QuantFormat::q8_0:
      return quantize_blocks<BlockQ8_0>(in, count, out);
    case QuantFormat::q4_0:
      return quantize_blocks<BlockQ4_0>(in, count, out);
    case QuantFormat::q4_1:
      return quantize_blocks<BlockQ4_1>(in, count, out);
    default:
      throw_error("[quantize] cannot write ", quant_format_name(format), ": q8_0, q4_0 and q4_1 are written");
  }
}

void dequantize_row(QuantFormat format, const void* in, int64_t count, float* out) {
  quantized_row_bytes(format, count);
  switch (format) {
    case QuantFormat::q8_0:
      return dequantize_blocks<BlockQ8_0>(in, count, out);
    case QuantFormat::q4_0:
      return dequantize_blocks<BlockQ4_0>(in, count, out);
    case QuantFormat::q4_1:
      return dequantize_blocks<BlockQ4_1>(in, count, out);
    case QuantFormat::q5_0:
      return dequantize_blocks<BlockQ5_0>(in, count, out);
    case QuantFormat::q5_1:
      return dequantize_blocks<BlockQ5_1>(in, count, out);
    case QuantFormat::q4_k:
      return dequantize_blocks<BlockQ4_K>(in, count, out);
    case QuantFormat::q5_k:
      return dequantize_blocks<BlockQ5_K>(in, count, out);
    case QuantFormat::q6_k:
      return dequantize_blocks<BlockQ6_K>(in, count, out);
  }
}

}  // namespace ondol
