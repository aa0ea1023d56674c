#include <ondol/autograd/recompute.h>

namespace ondol::functions {

Variable recomputed(std::function<Variable()> block) {
  Tape* tape = Tape::current();
  if (tape == nullptr) return block();
  Variable out;
  {
    const Tape discarded;  // tells whether a gradient is wanted, and makes the kernels those of the backward's forward
    out = block();
  }
  if (!out.requires_grad()) return out;
  tape->record([block = std::move(block), out] {
    if (!out.has_grad()) return;
    Tape again;
    again.backward(block(), out.take_grad());
  });
  return out;
}

}  // namespace ondol::functions
