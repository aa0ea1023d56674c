// What an optimizer does with each tensor of the model's files: its place in the flat buffers, its rate and its decay.
#pragma once

#include <ondol/models/model.h>
#include <ondol/train/optimizer.h>

namespace ondol {

/// The tensors that are trained, in the order of the flat buffers, with the groups and the decay by layer that the
/// configuration asks for: rate lr decay^(L + 1 - depth) for depths from 0 (embeddings) to L + 1 (head), as in BEiT
/// (Bao et al. 2022). Throws UsageError when a group matches nothing.
/// `gradual`: with a group for each depth that has something to train, for gradual unfreezing; else all are of group 0.
std::vector<ParameterSpan> parameter_spans(const OptimizerConfig& config, const Model& model, bool gradual = false);

}  // namespace ondol
