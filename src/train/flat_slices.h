// Tensors in the layout of a ParameterStore (master weights, moments of the optimizer) as a part of the tensor that one
// process with the whole model writes into a file, and reads from it.
//
//   const TensorSlices slices = flat_slices(store, "exp_avg", exp_avg);     // all of it, unless the model is split
//   read_slices(SafetensorsFile("optimizer.safetensors"), slices);
#pragma once

#include <string>
#include <vector>

#include <ondol/io/tensor_slices.h>
#include <ondol/models/tensor_parallel.h>
#include <ondol/nn/parameter.h>

namespace ondol {

/// Elements [begin, begin + values.numel()) of a flat tensor; `alone`: of the ranks with the same part of the model
/// this one alone has them.
struct FlatStretch {
  int64_t begin = 0;
  Tensor values;
  bool alone = false;
};

/// `flat` has the store's trainable_elements().
TensorSlices flat_slices(const ParameterStore& store, const std::string& name, const Tensor& flat);
/// Where this process has stretches of it, of one type; `place`: its own in the tensor group.
TensorSlices flat_slices(const ParameterStore& store, const std::string& name,
                         const std::vector<FlatStretch>& stretches, const TensorPlace& place);

}  // namespace ondol
