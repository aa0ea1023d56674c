// Cases of quantized.h. The blocks are packed here from integers and scales, so that layout and arithmetic are held
// against the formula scale * integer (+ minimum).
#include <ondol/ops/quantized.h>

#include "support/op_cases.h"

namespace ondol::testing {

namespace {

constexpr QuantFormat kFormats[] = {QuantFormat::q8_0, QuantFormat::q4_0, QuantFormat::q4_1};

/// What the integer `id` (as it was drawn) stands for.
int64_t signed_integer(QuantFormat format, int64_t id) {
  return format == QuantFormat::q8_0 ? id - 128 : format == QuantFormat::q4_0 ? id - 8 : id;
}

/// ids (rows, cols), scales and minima (rows, cols / 32) as blocks, byte by byte.
QuantizedMatrix pack_blocks(QuantFormat format, const Tensor& ids, const Tensor& scales, const Tensor& minima) {
  const std::vector<int32_t> values = ids.to_vector<int32_t>();
  const std::vector<float> scale = scales.to_vector<float>(), minimum = minima.to_vector<float>();
  std::vector<uint8_t> bytes;
  const auto put_half = [&bytes](float value) {
    const uint16_t bits = float16(value).bits;
    bytes.push_back(static_cast<uint8_t>(bits & 255));
    bytes.push_back(static_cast<uint8_t>(bits >> 8));
  };
  for (size_t block = 0; block < scale.size(); ++block) {
    put_half(scale[block]);
    if (format == QuantFormat::q4_1) put_half(minimum[block]);
    const int32_t* id = values.data() + 32 * block;
    for (size_t i = 0; i < (format == QuantFormat::q8_0 ? 32 : 16); ++i) {
      bytes.push_back(
          static_cast<uint8_t>(format == QuantFormat::q8_0 ? signed_integer(format, id[i]) : id[i] | id[i + 16] << 4));
    }
  }
  const int64_t rows = ids.size(0), cols = ids.size(1);
  return {Tensor::from_vector(bytes, {rows, quantized_row_bytes(format, cols)}, ids.device()), format, cols};
}

/// The inputs of a quantised matrix: integers, scales, minima.
std::vector<Input> matrix_inputs(QuantFormat format, int64_t rows, int64_t cols) {
  const Shape blocks{rows, cols / 32};
  return {{.shape = {rows, cols},
           .dtype = DType::i32,
           .fill = Fill::uniform_ids,
           .limit = format == QuantFormat::q8_0 ? 256 : 16},
          {.shape = blocks, .scale = 0.25},
          {.shape = blocks}};
}

/// The weights (rows, cols) that the inputs from `first` on stand for.
template <class T>
Array<T> weights(QuantFormat format, const std::vector<Array<T>>& in, size_t first) {
  const Array<T>&ids = in[first], &scales = in[first + 1], &minima = in[first + 2];
  const auto half = [](T value) { return static_cast<T>(static_cast<float>(float16(static_cast<float>(value)))); };
  Array<T> out(ids.shape);
  for (int64_t i = 0; i < out.numel(); ++i) {
    out[i] = half(scales[i / 32]) * static_cast<T>(signed_integer(format, static_cast<int64_t>(ids[i])));
    if (format == QuantFormat::q4_1) out[i] += half(minima[i / 32]);
  }
  return out;
}

struct ProductCase {
  Shape x;
  int64_t out;
  bool bias = false, residual = false;
  std::optional<Activation> activation = {};
  Layout layout = Layout::contiguous;
};

void add_products(std::vector<OpCase>& cases, bool large) {
  std::vector<ProductCase> list = {{{1, 32}, 1},
                                   {{32}, 5},
                                   {{1, 64}, 67, true},
                                   {{1, 576}, 130, true, true},
                                   {{1, 4160}, 3},
                                   {{2, 96}, 33, false, true, Activation::silu},
                                   {{3, 544}, 18, true, false, Activation::gelu_tanh},
                                   {{2, 2, 1056}, 40, true, true, Activation::relu},
                                   {{5, 64}, 9, true, false, Activation::gelu_erf, Layout::sliced},
                                   {{8, 160}, 70, true, true},
                                   {{9, 128}, 70, true, true, Activation::gelu_tanh},
                                   {{40, 64}, 100},
                                   {{0, 32}, 4},
                                   {{2, 32}, 0},
                                   {{2, 0}, 3, true}};
  if (large) list = {{{1, 576}, 49152}, {{1, 1536}, 576}, {{4, 4096}, 4096}};
  for (const QuantFormat format : kFormats) {
    for (const DType dtype : kDataTypes) {
      for (const ProductCase& p : list) {
        OpCase c;
        c.op = "quantized_linear";
        c.name = concat("quantized_linear ", quant_format_name(format), " ", dtype_name(dtype), " ", p.x,
                        layout_name(p.layout), " to ", p.out, p.bias ? " bias" : "", p.residual ? " residual" : "",
                        p.activation ? concat(" activation ", static_cast<int>(*p.activation)) : "");
        c.dtype = dtype;
        const Shape out_shape = [&] {
          Shape shape = p.x;
          shape.set(-1, p.out);
          return shape;
        }();
        c.inputs = {{.shape = p.x, .dtype = dtype, .layout = p.layout}};
        for (const Input& input : matrix_inputs(format, p.out, p.x[-1])) c.inputs.push_back(input);
        c.inputs.push_back({.shape = {p.out}, .dtype = dtype});
        c.inputs.push_back({.shape = out_shape, .dtype = dtype});
        c.run = [format, p](const std::vector<Tensor>& in, bool) {
          ops::QuantizedLinearArguments arguments;
          arguments.weight = pack_blocks(format, in[1], in[2], in[3]);
          if (p.bias) arguments.bias = in[4];
          if (p.residual) arguments.residual = in[5];
          arguments.activation = p.activation;
          return OpResult{{ops::quantized_linear(in[0], arguments)}, {}};
        };
        // More than eight rows are multiplied with weights of the data type.
        const bool rounded_weights = c.inputs[0].shape.numel() > 8 * p.x[-1];
        set_reference(c, [format, p, rounded_weights]<class T>(const std::vector<Array<T>>& in, Round round) {
          Array<T> w = weights(format, in, 1);
          for (int64_t i = 0; rounded_weights && i < w.numel(); ++i) w[i] = round(w[i]);
          Array<T> out = reference::linear(in[0], w, p.bias ? &in[4] : nullptr);
          for (int64_t i = 0; i < out.numel(); ++i) {
            if (p.activation) out[i] = reference::activation(out[i], *p.activation);
            if (p.residual) out[i] += in[5][i];
          }
          return std::vector<Array<T>>{out};
        });
        c.flops = 2.0 * static_cast<double>(p.x.numel()) * static_cast<double>(p.out);
        cases.push_back(std::move(c));
      }
    }
  }
}

void add_dequantize(std::vector<OpCase>& cases, bool large) {
  std::vector<Shape> shapes = {{1, 32}, {3, 96}, {0, 32}, {2, 0}, {37, 544}};
  if (large) shapes = {{4096, 4096}};
  for (const QuantFormat format : kFormats) {
    for (const DType dtype : kDataTypes) {
      for (const Shape& shape : shapes) {
        OpCase c;
        c.op = "dequantize";
        c.name = concat("dequantize ", quant_format_name(format), " ", dtype_name(dtype), " ", shape);
        c.dtype = dtype;
        c.inputs = matrix_inputs(format, shape[0], shape[1]);
        c.run = [format, dtype](const std::vector<Tensor>& in, bool) {
          return OpResult{{ops::dequantize(pack_blocks(format, in[0], in[1], in[2]), dtype)}, {}};
        };
        set_reference(c, [format]<class T>(const std::vector<Array<T>>& in, Round) {
          return std::vector<Array<T>>{weights(format, in, 0)};
        });
        cases.push_back(std::move(c));
        if (shape[0] == 0 || large) continue;
        OpCase e = cases.back();
        e.op = "quantized_embedding";
        e.name = concat("quantized_embedding ", quant_format_name(format), " ", dtype_name(dtype), " ", shape);
        e.inputs.push_back({.shape = {2, 3}, .dtype = DType::i32, .fill = Fill::uniform_ids, .limit = shape[0]});
        e.run = [format, dtype](const std::vector<Tensor>& in, bool) {
          return OpResult{{ops::quantized_embedding(pack_blocks(format, in[0], in[1], in[2]), in[3], dtype)}, {}};
        };
        const Shape out{2, 3, shape[1]};
        set_reference(e, [format, out]<class T>(const std::vector<Array<T>>& in, Round) {
          return std::vector<Array<T>>{reference::embedding(weights(format, in, 0), in[3], out)};
        });
        cases.push_back(std::move(e));
      }
    }
  }
}

}  // namespace

void add_quantized_cases(std::vector<OpCase>& cases, bool large) {
  add_products(cases, large);
  add_dequantize(cases, large);
}

}  // namespace ondol::testing
