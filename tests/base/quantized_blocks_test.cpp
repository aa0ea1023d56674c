// Quantised blocks: bytes worked out by hand from GGML's definition, and the properties of its rounding.
#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/base/philox.h>
#include <ondol/base/quantized_blocks.h>

namespace ondol {
namespace {

std::vector<uint8_t> quantized(QuantFormat format, const std::vector<float>& row) {
  std::vector<uint8_t> out(static_cast<size_t>(quantized_row_bytes(format, static_cast<int64_t>(row.size()))));
  quantize_row(format, row.data(), static_cast<int64_t>(row.size()), out.data());
  return out;
}

std::vector<float> dequantized(QuantFormat format, const std::vector<uint8_t>& blocks) {
  std::vector<float> out(blocks.size() / static_cast<size_t>(quant_block_bytes(format)) * 32);
  dequantize_row(format, blocks.data(), static_cast<int64_t>(out.size()), out.data());
  return out;
}

TEST(QuantizedBlocks, BytesOfQ8_0) {
  // Largest magnitude 254: scale 2 (f16 0x4000). Halves round away from zero.
  std::vector<float> row(32, 0.0f);
  row[0] = 254.0f, row[1] = -254.0f, row[2] = 1.0f, row[3] = -1.0f, row[4] = 0.99f, row[5] = -5.0f, row[31] = 100.0f;
  std::vector<uint8_t> expected(34, 0);
  expected[1] = 0x40;
  expected[2] = 127, expected[3] = 0x81, expected[4] = 1, expected[5] = 0xff, expected[6] = 0, expected[7] = 0xfd;
  expected[33] = 50;
  EXPECT_EQ(quantized(QuantFormat::q8_0, row), expected);
  const std::vector<float> back = dequantized(QuantFormat::q8_0, expected);
  EXPECT_EQ(back[0], 254.0f);
  EXPECT_EQ(back[1], -254.0f);
  EXPECT_EQ(back[2], 2.0f);
  EXPECT_EQ(back[5], -6.0f);
  EXPECT_EQ(back[31], 100.0f);
}

TEST(QuantizedBlocks, BytesOfQ4_0) {
  // The value of largest magnitude is +4, so the scale is -0.5 (0xb800): +4 becomes 0, -3.5 becomes 15, 0 becomes 8.
  std::vector<float> row(32, 0.0f);
  row[0] = 4.0f, row[1] = -3.5f, row[2] = 0.5f, row[3] = -0.5f, row[16] = -4.0f, row[17] = 0.24f, row[18] = 0.26f;
  std::vector<uint8_t> expected(18, 0x88);
  expected[0] = 0x00, expected[1] = 0xb8;
  expected[2] = 0xf0;  // nibble 0: 4 -> 0; nibble 16: -4 would be 16, kept at 15
  expected[3] = 0x8f;  // nibble 1: -3.5 -> 15; nibble 17: 0.24 -> floor(-0.48 + 8.5) = 8
  expected[4] = 0x77;  // nibble 2: 0.5 -> 7; nibble 18: 0.26 -> floor(-0.52 + 8.5) = 7
  expected[5] = 0x89;  // nibble 3: -0.5 -> 9
  EXPECT_EQ(quantized(QuantFormat::q4_0, row), expected);
  const std::vector<float> back = dequantized(QuantFormat::q4_0, expected);
  EXPECT_EQ(back[0], 4.0f);
  EXPECT_EQ(back[1], -3.5f);
  EXPECT_EQ(back[2], 0.5f);
  EXPECT_EQ(back[16], -3.5f);
  EXPECT_EQ(back[17], 0.0f);
  EXPECT_EQ(back[18], 0.5f);
}

TEST(QuantizedBlocks, TheFirstOfEqualMagnitudesSetsTheSignOfQ4_0) {
  std::vector<float> row(32, 0.0f);
  row[5] = -8.0f, row[9] = 8.0f;
  const std::vector<uint8_t> blocks = quantized(QuantFormat::q4_0, row);
  EXPECT_EQ(blocks[1], 0x3c);  // +1
  EXPECT_EQ(blocks[2 + 5] & 15, 0);
  EXPECT_EQ(blocks[2 + 9] & 15, 15);
}

TEST(QuantizedBlocks, BytesOfQ4_1) {
  // From -1 to 6.5: scale 0.5 (0x3800), minimum -1 (0xbc00).
  std::vector<float> row(32, -1.0f);
  row[0] = 6.5f, row[1] = -0.76f, row[2] = -0.74f, row[16] = 0.0f, row[31] = 6.5f;
  std::vector<uint8_t> expected(20, 0x00);
  expected[1] = 0x38, expected[3] = 0xbc;
  expected[4] = 0x2f;   // 6.5 -> 15; 0 -> 2
  expected[5] = 0x00;   // -0.76 -> floor(0.48 + 0.5) = 0
  expected[6] = 0x01;   // -0.74 -> floor(0.52 + 0.5) = 1
  expected[19] = 0xf0;  // weight 31
  EXPECT_EQ(quantized(QuantFormat::q4_1, row), expected);
  const std::vector<float> back = dequantized(QuantFormat::q4_1, expected);
  EXPECT_EQ(back[0], 6.5f);
  EXPECT_EQ(back[1], -1.0f);
  EXPECT_EQ(back[2], -0.5f);
  EXPECT_EQ(back[16], 0.0f);
  EXPECT_EQ(back[31], 6.5f);
}

TEST(QuantizedBlocks, ErrorsStayWithinHalfAStep) {
  constexpr int kCount = 32 * 50;
  std::vector<float> row;
  for (int i = 0; i < kCount; ++i)
    row.push_back(static_cast<float>(philox_normal({.seed = 3}, static_cast<uint64_t>(i))));
  for (const QuantFormat format : {QuantFormat::q8_0, QuantFormat::q4_0, QuantFormat::q4_1}) {
    const std::vector<float> back = dequantized(format, quantized(format, row));
    for (int block = 0; block < kCount / 32; ++block) {
      float low = row[static_cast<size_t>(32 * block)], high = low;
      for (int i = 0; i < 32; ++i) {
        low = std::min(low, row[static_cast<size_t>(32 * block + i)]);
        high = std::max(high, row[static_cast<size_t>(32 * block + i)]);
      }
      const float largest = std::max(-low, high);
      // Q4_0 has no place for +8 steps: the value opposite to the extreme one may be a whole step off.
      const float step = format == QuantFormat::q8_0   ? largest / 127 / 2
                         : format == QuantFormat::q4_0 ? largest / 8
                                                       : (high - low) / 15 / 2;
      for (int i = 0; i < 32; ++i) {
        const size_t at = static_cast<size_t>(32 * block + i);
        EXPECT_LE(std::abs(back[at] - row[at]), 1.001f * step + 0.001f * largest) << quant_format_name(format);
      }
    }
  }
}

TEST(QuantizedBlocks, ZeroAndTinyBlocks) {
  for (const QuantFormat format : {QuantFormat::q8_0, QuantFormat::q4_0, QuantFormat::q4_1}) {
    for (const float value : {0.0f, 1e-40f, -1e-30f}) {
      for (const float back : dequantized(format, quantized(format, std::vector<float>(32, value)))) {
        EXPECT_NEAR(back, 0.0f, 1e-7f) << quant_format_name(format);
      }
    }
  }
}

TEST(QuantizedBlocks, RefusesWhatItCannotHold) {
  EXPECT_THROW(quantized_row_bytes(QuantFormat::q8_0, 33), Error);
  std::vector<float> row(32, 1.0f);
  row[7] = NAN;
  EXPECT_THROW(quantized(QuantFormat::q4_0, row), Error);
  row[7] = 1e30f;
  EXPECT_THROW(quantized(QuantFormat::q8_0, row), Error);
  EXPECT_THROW(quant_format_from_name("q5_k"), UsageError);
  EXPECT_EQ(quant_format_from_name("Q4_1"), QuantFormat::q4_1);
}

}  // namespace
}  // namespace ondol
