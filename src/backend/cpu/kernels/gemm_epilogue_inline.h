// The definition of finish_block, for the files that instantiate it.
#pragma once

#include "backend/cpu/kernels/activations.h"
#include "backend/cpu/kernels/gemm_epilogue.h"

namespace ondol::cpu::ONDOL_ISA {

namespace epilogue {

struct NoActivation {
  static Floats value(Floats x) { return x; }
};

template <class Activation, class T, class Out>
void finish_rows(const GemmArgs& args, int64_t offset, int64_t col, int64_t rows, int64_t cols, const float* sums,
                 int64_t sums_stride) {
  const T* bias = args.bias == nullptr ? nullptr : static_cast<const T*>(args.bias) + col;
  const bool scaled = args.alpha != 1.0f;
  for (int64_t i = 0; i < rows; ++i, offset += args.ldc, sums += sums_stride) {
    Out* out = static_cast<Out*>(args.c) + offset;
    const Out* residual = args.residual == nullptr ? nullptr : static_cast<const Out*>(args.residual) + offset;
    Out* before = args.pre_activation == nullptr ? nullptr : static_cast<Out*>(args.pre_activation) + offset;
    for_each_vector(cols, [&](int64_t j, auto n) {
      Floats value = load_lanes(sums + j, n);
      if (scaled) value = value * splat(args.alpha);
      if (bias != nullptr) value = value + load_lanes(bias + j, n);
      if (before != nullptr) store_lanes(before + j, value, n);
      value = Activation::value(value);
      if (residual != nullptr) value = value + load_lanes(residual + j, n);
      if (args.beta != 0.0f) value = value + splat(args.beta) * load_lanes(out + j, n);
      store_lanes(out + j, value, n);
    });
  }
}

template <class T, class Out>
void finish(const GemmArgs& args, int64_t offset, int64_t col, int64_t rows, int64_t cols, const float* sums,
            int64_t sums_stride) {
  switch (args.epilogue) {
    case GemmEpilogue::none:
      return finish_rows<NoActivation, T, Out>(args, offset, col, rows, cols, sums, sums_stride);
    case GemmEpilogue::gelu_tanh:
      return finish_rows<GeluTanh, T, Out>(args, offset, col, rows, cols, sums, sums_stride);
    case GemmEpilogue::gelu_erf:
      return finish_rows<GeluErf, T, Out>(args, offset, col, rows, cols, sums, sums_stride);
    case GemmEpilogue::relu:
      return finish_rows<Relu, T, Out>(args, offset, col, rows, cols, sums, sums_stride);
    case GemmEpilogue::silu:
      return finish_rows<Silu, T, Out>(args, offset, col, rows, cols, sums, sums_stride);
  }
}

}  // namespace epilogue

template <class T>
void finish_block(const GemmArgs& args, int64_t index, int64_t row, int64_t col, int64_t rows, int64_t cols,
                  const float* sums, int64_t sums_stride) {
  const int64_t offset = index * args.stride_c + row * args.ldc + col;
  if (args.c_dtype == DType::f32) {
    epilogue::finish<T, float>(args, offset, col, rows, cols, sums, sums_stride);
  } else {
    epilogue::finish<T, bfloat16>(args, offset, col, rows, cols, sums, sums_stride);
  }
}

}  // namespace ondol::cpu::ONDOL_ISA
