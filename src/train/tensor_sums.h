// What the ranks of a model's tensor group (models/tensor_parallel.h) add up in a step: each has the loss of its own
// rows of tokens, and of parameters that all of them hold whole the gradient of those rows. For a model that is not
// split all of this does nothing but what its name says.
#pragma once

#include <vector>

#include <ondol/models/model.h>

#include "train/sharding.h"

namespace ondol {

/// Gradients, complete but for this, become those of all tokens: flat ones, with sharding what this rank keeps of them,
/// which is the same in all ranks of the group (in a flat tensor up to stage 1, in a shard from stage 2 on).
void add_up_shared_gradients(const Model& model, const Tensor& gradients, const Sharding* sharding);

/// Of the squares of each block of the gradients (ops::block_squares) the first rank of the group keeps all, the others
/// those of the split parameters: their sum over the group counts every parameter once.
void keep_own_squares(const Model& model, const Tensor& squares);

/// values (f32 or f64) become their sums over the group, the same bytes in every rank.
void add_up_in_group(const Model& model, const Tensor& values);
void add_up_in_group(const Model& model, std::vector<double>& values);

}  // namespace ondol
