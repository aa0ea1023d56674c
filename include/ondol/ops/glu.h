// Gated linear units (Shazeer 2020): out = act(gate) * up. SwiGLU: silu; GeGLU: gelu.
//
//   Tensor y = ops::glu(gate_up, Activation::silu);      // gate_up (.., 2I): gate first, then up -> (.., I)
#pragma once

#include <ondol/ops/elementwise.h>

namespace ondol::ops {

Tensor glu(const Tensor& gate_up, Activation kind);
/// Gradient with the layout of gate_up.
Tensor glu_backward(const Tensor& grad_output, const Tensor& gate_up, Activation kind);

}  // namespace ondol::ops
