// Which activations the gemm row applies itself.
#pragma once

#include <optional>

#include <ondol/ops/elementwise.h>

#include "backend/kernel_args.h"

namespace ondol::ops {

inline std::optional<GemmEpilogue> gemm_epilogue(Activation activation) {
  switch (activation) {
    case Activation::relu:
      return GemmEpilogue::relu;
    case Activation::gelu_erf:
      return GemmEpilogue::gelu_erf;
    case Activation::gelu_tanh:
      return GemmEpilogue::gelu_tanh;
    case Activation::silu:
      return GemmEpilogue::silu;
    case Activation::tanh:
    case Activation::sigmoid:
      return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace ondol::ops
