// What a rank has of a model whose values are shared out, as parts of the tensors in the model's files.
//
//   const std::vector<TensorPart> parts = held_parts(model.parameters(), layout, slot);      // of one file tensor
#pragma once

#include <vector>

#include <ondol/io/tensor_slices.h>
#include <ondol/models/tensor_parallel.h>
#include <ondol/nn/parameter.h>

#include "train/shard_layout.h"

namespace ondol {

/// Views of the flat values: own parts, and those that all ranks have. Together with the parts of the other ranks they
/// are slot.view() of the whole parameter. `place`: of this process in its tensor group.
std::vector<TensorPart> held_parts(const ParameterStore& store, const ShardLayout& layout, const WeightSlot& slot,
                                   const TensorPlace& place = {});

}  // namespace ondol
