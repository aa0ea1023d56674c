// Products with quantised weights (base/quantized_blocks.h).
//
//   QuantizedMatrix w = ops::quantize(weight, QuantFormat::q8_0);      // or {blocks of a GGUF tensor, format, cols}
//   Tensor y = ops::quantized_linear(x, {.weight = w, .residual = h});  // (.., in) -> (.., out)
//
// x and y are f32 or bf16; sums run in f32. Up to eight rows of x multiply the blocks in place, which reads every
// weight once; more rows go through panels of dequantised weights and the plain product. Errors name op, shapes and
// format.
#pragma once

#include <utility>
#include <vector>

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

/// A weight whose rows are kept in one or more matrices, one under the other: q, k and v may have formats of their own.
struct QuantizedWeight {
  QuantizedWeight() = default;
  QuantizedWeight(QuantizedMatrix matrix) : parts{std::move(matrix)} {}  // one matrix is a weight

  std::vector<QuantizedMatrix> parts;  // all with the same cols
  DType dtype = DType::f32;            // of the model's other weights and its activations

  int64_t rows() const {
    int64_t total = 0;
    for (const QuantizedMatrix& part : parts) total += part.rows();
    return total;
  }
  int64_t cols() const { return parts.empty() ? 0 : parts.front().cols; }
};

}  // namespace ondol

namespace ondol::ops {

/// weight (rows, cols), f32 or bf16, on the host.
QuantizedMatrix quantize(const Tensor& weight, QuantFormat format);

/// (rows, cols) of dtype f32 or bf16, on the matrix's device.
Tensor dequantize(const QuantizedMatrix& matrix, DType dtype);
/// All its rows.
Tensor dequantize(const QuantizedWeight& weight, DType dtype);

struct QuantizedLinearArguments {
  QuantizedWeight weight;                // (out, in)
  Tensor bias;                           // (out), optional
  std::optional<Activation> activation;  // relu, gelu, silu
  Tensor residual;                       // (.., out), optional, added last
};

/// act(x w^T + bias) + residual.
Tensor quantized_linear(const Tensor& x, const QuantizedLinearArguments& arguments);

/// The sum of -log softmax(hidden weight^T + bias)[label] over the labels that count, f32, one element.
Tensor quantized_linear_cross_entropy(const Tensor& hidden, const QuantizedWeight& weight, const Tensor& bias,
                                      const Tensor& labels, int32_t ignore_index);

/// The rows ids (i32, any shape) of the matrix: (.., cols) of dtype f32 or bf16.
Tensor quantized_embedding(const QuantizedMatrix& table, const Tensor& ids, DType dtype);

}  // namespace ondol::ops
