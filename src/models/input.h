// Small pieces that every family's forward needs: positions, dropout streams, kept hidden states.
#pragma once

#include <ondol/autograd/functions.h>
#include <ondol/autograd/recompute.h>
#include <ondol/models/model.h>
#include <ondol/nn/tensor_parallel.h>

namespace ondol {

/// Positions (B, T) of the tokens: the cache's, the input's, or 0, 1, 2, ... Throws when the input is not (B, T) i32 or
/// longer than the model allows.
Tensor resolve_positions(const ModelInput& input, const ForwardContext& context, const ModelInfo& info);

/// The generator for one dropout site.
RngKey rng_stream(const ForwardContext& context, uint32_t site);

/// Dropout in training, x itself otherwise; x has the own rows of the tokens.
Variable drop(const Variable& x, float p, const ForwardContext& context, uint32_t site, const TokenRows& rows = {});

/// residual + dropout(x w^T + b); without dropout the sum is part of the product.
struct Dense {
  Variable weight;  // (out, in)
  Variable bias;    // (out), may be undefined
};
Variable close_branch(const Variable& residual, const Variable& x, const Dense& projection, float p,
                      const ForwardContext& context, uint32_t site, const TokenRows& rows = {});

/// One layer of a stack: a function of what it captures, by value, and of its own parameters. Computed again in the
/// backward where that is wanted.
template <class Layer>
Variable run_as_layer(const ForwardContext& context, const LayerParameters& parameters, Layer&& layer) {
  const auto run = [&] {
    return context.recompute_layers ? functions::recomputed(std::forward<Layer>(layer)) : layer();
  };
  LayerHooks* const hooks = context.layers;
  if (hooks == nullptr) return run();
  Tape* const tape = Tape::current();
  hooks->before_forward(parameters);
  if (tape != nullptr) tape->record([hooks, parameters] { hooks->after_backward(parameters); });
  Variable out = run();
  hooks->after_forward(parameters);
  if (tape != nullptr && out.requires_grad()) {
    tape->record([hooks, parameters] { hooks->before_backward(parameters); });
  }
  return out;
}

/// Appends to context.hidden_states when it is wanted, as "PREFIX.N".
void keep_hidden_state(const ForwardContext& context, const Variable& h, const std::string& prefix = "hidden_states");

}  // namespace ondol
