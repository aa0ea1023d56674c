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
  std::vector<float> out(blocks.size() / static_cast<size_t>(quant_block_bytes(format)) *
                         static_cast<size_t>(quant_block_size(format)));
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
  EXPECT_THROW(quant_format_from_name("q2_k"), UsageError);
  EXPECT_EQ(quant_format_from_name("Q4_1"), QuantFormat::q4_1);
}

TEST(QuantizedBlocks, Q5BlocksByHand) {
  // Scale 0.5 (0x3800), minimum -1 (0xbc00). Byte 0 holds nibbles 3 (weight 0) and 9 (weight 16); bits 0 and 31 are
  // set.
  std::vector<uint8_t> q5_0(22, 0);
  q5_0[1] = 0x38, q5_0[2] = 0x01, q5_0[5] = 0x80, q5_0[6] = 0x93;
  const std::vector<float> symmetric = dequantized(QuantFormat::q5_0, q5_0);
  EXPECT_EQ(symmetric[0], 0.5f * (3 + 16 - 16));
  EXPECT_EQ(symmetric[16], 0.5f * (9 - 16));
  EXPECT_EQ(symmetric[31], 0.5f * (0 + 16 - 16));
  EXPECT_EQ(symmetric[1], -8.0f);
  std::vector<uint8_t> q5_1(24, 0);
  q5_1[1] = 0x38, q5_1[3] = 0xbc, q5_1[4] = 0x01, q5_1[7] = 0x80, q5_1[8] = 0x93;
  const std::vector<float> shifted = dequantized(QuantFormat::q5_1, q5_1);
  EXPECT_EQ(shifted[0], 0.5f * 19 - 1.0f);
  EXPECT_EQ(shifted[16], 0.5f * 9 - 1.0f);
  EXPECT_EQ(shifted[31], 0.5f * 16 - 1.0f);
  EXPECT_EQ(shifted[1], -1.0f);
}

TEST(QuantizedBlocks, SuperBlocksByHand) {
  // Q4_K: scale 0.5, minimum 1. Part 1 has scale 5 and minimum 2 in whole bytes; part 6 has its lower four bits in byte
  // 10 (scale 3, minimum 4) and its upper two in bytes 2 (scale: 1) and 6 (minimum: 2): 19 and 36.
  std::vector<uint8_t> q4(144, 0);
  q4[1] = 0x38, q4[3] = 0x3c;
  q4[4 + 1] = 5, q4[4 + 5] = 2, q4[4 + 2] = 1 << 6, q4[4 + 6] = 2 << 6, q4[4 + 10] = 4 << 4 | 3;
  q4[16 + 7] = 0xa0;       // weight 7 of part 1: 10
  q4[16 + 3 * 32] = 0x0b;  // weight 0 of part 6: 11
  std::vector<float> weights = dequantized(QuantFormat::q4_k, q4);
  EXPECT_EQ(weights[32 + 7], 0.5f * 5 * 10 - 2.0f);
  EXPECT_EQ(weights[32 + 8], -2.0f);
  EXPECT_EQ(weights[192], 0.5f * 19 * 11 - 36.0f);
  EXPECT_EQ(weights[0], 0.0f);
  // Q5_K: the same with a fifth bit, bit 6 of high[0] for weight 0 of part 6.
  std::vector<uint8_t> q5(176, 0);
  std::copy(q4.begin(), q4.begin() + 16, q5.begin());
  q5[16] = 1 << 6, q5[48 + 7] = 0xa0, q5[48 + 3 * 32] = 0x0b;
  weights = dequantized(QuantFormat::q5_k, q5);
  EXPECT_EQ(weights[32 + 7], 0.5f * 5 * 10 - 2.0f);
  EXPECT_EQ(weights[192], 0.5f * 19 * 27 - 36.0f);
  // Q6_K: weight 128 + 64 + 20 (half 1, group 2, lane 20): upper nibble 9 of low[64 + 20], bits 4 and 5 (3) of
  // high[32 + 20]: 57 - 32 = 25; its part is 13, of scale -7.
  std::vector<uint8_t> q6(210, 0);
  q6[84] = 0x90, q6[128 + 52] = 3 << 4, q6[192 + 13] = static_cast<uint8_t>(-7), q6[209] = 0x38;
  weights = dequantized(QuantFormat::q6_k, q6);
  EXPECT_EQ(weights[212], 0.5f * -7 * 25);
  EXPECT_EQ(weights[213], 0.5f * -7 * -32);
}

/// Byte i is (73 i + 41) mod 256 but for the scales 0.25 and -0.5; expected values are those of the gguf package 0.19.
struct PatternCase {
  QuantFormat format;
  size_t scale_at;
  bool minimum;
  std::vector<std::pair<size_t, float>> weights;
  double sum, weighted_sum;  // of weight i, and of i times weight i
};

TEST(QuantizedBlocks, PatternsAsTheGgufPackageReadsThem) {
  const std::vector<PatternCase> cases = {
      {QuantFormat::q5_0, 0, false, {{0, 3.75f}, {1, 2.0f}, {15, -2.5f}, {16, 3.25f}, {31, 0.5f}}, -11.25, -285.0},
      {QuantFormat::q5_1, 0, true, {{0, 3.75f}, {1, 2.0f}, {15, 5.5f}, {16, 5.25f}, {31, 2.25f}}, 109.25, 1638.75},
      {QuantFormat::q4_k, 0, true, {{0, 53.75f}, {32, 89.5f}, {100, 156.0f}, {200, 14.75f}}, 17678.0, 2278994.0},
      {QuantFormat::q5_k, 0, true, {{0, 105.75f}, {32, 100.5f}, {128, 143.75f}, {255, 11.5f}}, 31858.0, 4148598.0},
      {QuantFormat::q6_k, 208, false, {{0, 40.25f}, {31, -400.0f}, {100, -533.5f}, {255, 72.0f}}, -3711.0, -403321.0}};
  for (const PatternCase& c : cases) {
    std::vector<uint8_t> block(static_cast<size_t>(quant_block_bytes(c.format)));
    for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<uint8_t>(73 * i + 41);
    block[c.scale_at] = 0x00, block[c.scale_at + 1] = 0x34;
    if (c.minimum) block[c.scale_at + 2] = 0x00, block[c.scale_at + 3] = 0xb8;
    const std::vector<float> weights = dequantized(c.format, block);
    for (const auto& [i, weight] : c.weights) EXPECT_EQ(weights[i], weight) << quant_format_name(c.format) << " " << i;
    double sum = 0, weighted_sum = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      sum += static_cast<double>(weights[i]);
      weighted_sum += static_cast<double>(i) * static_cast<double>(weights[i]);
    }
    EXPECT_EQ(sum, c.sum) << quant_format_name(c.format);
    EXPECT_EQ(weighted_sum, c.weighted_sum) << quant_format_name(c.format);
  }
}

TEST(QuantizedBlocks, OnlySomeFormatsAreWritten) {
  std::vector<float> row(256, 1.0f);
  std::vector<uint8_t> out(256);
  EXPECT_THROW(quantize_row(QuantFormat::q6_k, row.data(), 256, out.data()), Error);
  EXPECT_THROW(quantized_row_bytes(QuantFormat::q6_k, 32), Error);
}

}  // namespace
}  // namespace ondol
