// Products with quantised weights (base/quantized_blocks.h).
//
//   QuantizedMatrix w = ops::quantize(weight, QuantFormat::q8_0);      // or {blocks of a GGUF tensor, format, cols}
//   Tensor y = ops::quantized_linear(x, {.weight = w, .residual = h});  // (.., in) -> (.., out)
//
// x and y are f32 or bf16; sums run in f32. Up to eight rows of x multiply the blocks in place, which reads every weight
// once; more rows go through panels of dequantised weights and the plain product. Errors name op, shapes and format.
#pragma once

#include <ondol/base/quantized_blocks.h>
#include <ondol/ops/matmul.h>

namespace ondol {

/// A matrix (rows, cols) whose rows are quantised blocks; cols is a multiple of 32.
struct QuantizedMatrix {
  Tensor blocks;  // (rows, bytes of a row) u8, contiguous
  QuantFormat format = QuantFormat::q8_0;
  int64_t cols = 0;

  int64_t rows() const { return blocks.size(0); }
  QuantizedMatrix to(Device device) const { return {blocks.to(device), format, cols}; }
};

}  // namespace ondol

namespace ondol::ops {

/// weight (rows, cols), f32 or bf16, on the host.
QuantizedMatrix quantize(const Tensor& weight, QuantFormat format);

/// (rows, cols) of dtype f32 or bf16, on the matrix's device.
Tensor dequantize(const QuantizedMatrix& matrix, DType dtype);

struct QuantizedLinearArguments {
  QuantizedMatrix weight;                // (out, in)
  Tensor bias;                           // (out), optional
  std::optional<Activation> activation;  // relu, gelu, silu
  Tensor residual;                       // (.., out), optional, added last
};

/// act(x w^T + bias) + residual.
Tensor quantized_linear(const Tensor& x, const QuantizedLinearArguments& arguments);

/// The rows ids (i32, any shape) of the matrix: (.., cols) of dtype f32 or bf16.
Tensor quantized_embedding(const QuantizedMatrix& table, const Tensor& ids, DType dtype);

}  // namespace ondol::ops
