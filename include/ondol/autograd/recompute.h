// Gradient checkpointing (Chen et al. 2016): less memory for a second forward.
//
//   Variable out = functions::recomputed([=] { return run_layer(h); });   // keeps h and out, nothing in between
#pragma once

#include <functional>

#include <ondol/autograd/variable.h>

namespace ondol::functions {

/// What `block` computes. Nothing that it records is kept: the backward runs it again. So it must compute the same each
/// time (dropout does, its masks follow from keys), own or outlive what it refers to, and give a variable of its own.
/// Gradients are the same to the bit as without. Without a tape, or when nothing in it wants a gradient, it runs once.
Variable recomputed(std::function<Variable()> block);

}  // namespace ondol::functions
