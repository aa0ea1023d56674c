// One forward of a decoder with its cache.
#pragma once

#include <span>
#include <vector>

#include <ondol/models/model.h>

namespace ondol {

/// Feeds tokens[b] (one or more, or none for a row that has ended) to each row and returns the logits (B, V) behind
/// each row's last one; those of an ended row mean nothing.
Tensor decode_step(Model& model, KvCache& cache, const std::vector<std::span<const int32_t>>& tokens);

}  // namespace ondol
