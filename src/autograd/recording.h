// What the functions share: is anything recorded, and how an output is made.
#pragma once

#include <ondol/autograd/variable.h>

namespace ondol::functions {

/// The recording tape when one of the inputs wants a gradient, else null.
template <class... Inputs>
Tape* recording(const Inputs&... inputs) {
  Tape* tape = Tape::current();
  return tape != nullptr && (inputs.requires_grad() || ...) ? tape : nullptr;
}

inline Variable output(Tensor value, const Tape* tape) { return Variable(std::move(value), tape != nullptr); }

}  // namespace ondol::functions
