// Quantised matrices beyond the op cases: agreement with base/quantized_blocks.h to the byte, independence of the
// batch, special values, errors.
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include <ondol/ops/quantized.h>

#include "support/op_cases.h"

namespace ondol {
namespace {

constexpr QuantFormat kFormats[] = {QuantFormat::q8_0, QuantFormat::q4_0, QuantFormat::q4_1};

Tensor normal(const Shape& shape, uint64_t seed) {
  std::vector<float> values;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    values.push_back(static_cast<float>(philox_normal({.seed = seed}, static_cast<uint64_t>(i))));
  }
  return Tensor::from_vector(values, shape);
}

TEST(Quantized, DequantizeGivesTheBytesOfDequantizeRow) {
  const Tensor weight = normal({7, 96}, 5);
  for (const QuantFormat format : kFormats) {
    const QuantizedMatrix matrix = ops::quantize(weight, format);
    std::vector<float> expected(7 * 96);
    for (int64_t row = 0; row < 7; ++row) {
      dequantize_row(format, matrix.blocks.data<uint8_t>() + row * matrix.blocks.size(1), 96,
                     expected.data() + row * 96);
    }
    EXPECT_EQ(ops::dequantize(matrix, DType::f32).to_vector<float>(), expected) << quant_format_name(format);
    const std::vector<int32_t> ids{6, 0, 6};
    const std::vector<float> rows =
        ops::quantized_embedding(matrix, Tensor::from_vector(ids, {3}), DType::f32).to_vector<float>();
    EXPECT_EQ(std::memcmp(rows.data(), expected.data() + 6 * 96, 96 * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(rows.data() + 96, expected.data(), 96 * sizeof(float)), 0);
  }
}

TEST(Quantized, RowsDoNotDependOnTheOthers) {
  const Tensor x = normal({8, 576}, 6);
  for (const QuantFormat format : kFormats) {
    const QuantizedMatrix matrix = ops::quantize(normal({130, 576}, 7), format);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Tensor input = x.to(dtype);
      const std::vector<float> all = ops::quantized_linear(input, {.weight = matrix}).to_vector<float>();
      for (const int64_t count : {1, 3, 5, 7}) {
        const std::vector<float> some =
            ops::quantized_linear(input.narrow(0, 8 - count, count), {.weight = matrix}).to_vector<float>();
        const size_t first = static_cast<size_t>((8 - count) * 130);
        EXPECT_EQ(some, std::vector<float>(all.begin() + static_cast<ptrdiff_t>(first), all.end())) << count;
      }
    }
  }
}

TEST(Quantized, ANanInOneRowStaysThere) {
  Tensor x = normal({2, 64}, 8);
  x.data<float>()[40] = NAN;
  for (const QuantFormat format : kFormats) {
    const QuantizedMatrix matrix = ops::quantize(normal({3, 64}, 9), format);
    const std::vector<float> out = ops::quantized_linear(x, {.weight = matrix}).to_vector<float>();
    for (size_t i = 0; i < 6; ++i) EXPECT_EQ(std::isnan(out[i]), i < 3) << i;
  }
}

TEST(Quantized, ErrorsNameTheShapes) {
  const QuantizedMatrix matrix = ops::quantize(normal({3, 64}, 9), QuantFormat::q4_0);
  const auto message = [](auto call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([&] {
              ops::quantized_linear(normal({2, 32}, 1), {.weight = matrix});
            }),
            "[quantized_linear] x has shape (2, 32), the weight (3, 64): last dimensions differ");
  EXPECT_EQ(message([&] {
              ops::quantize(normal({2, 33}, 1), QuantFormat::q8_0);
            }),
            "[quantize] q8_0 rows of 33 weights: a multiple of 32 is needed");
  QuantizedMatrix wrong = matrix;
  wrong.format = QuantFormat::q8_0;
  EXPECT_EQ(message([&] { ops::dequantize(wrong, DType::f32); }),
            "[dequantize] blocks have shape (3, 36): q8_0 rows of 64 weights take 68 bytes");
  EXPECT_EQ(message([&] { ops::dequantize(matrix, DType::i32); }), "[dequantize] dtype i32: f32 or bf16 is needed");
  EXPECT_THROW(ops::quantized_embedding(matrix, Tensor::from_vector(std::vector<int32_t>{3}, {1}), DType::f32), Error);
}

}  // namespace
}  // namespace ondol
