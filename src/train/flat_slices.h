// A flat tensor in the layout of a ParameterStore (master weights, moments of the optimizer) as a part of the tensor
// that one process with the whole model writes into a file, and reads from it.
//
//   const TensorSlices slices = flat_slices(store, "exp_avg", exp_avg);     // all of it, unless the model is split
//   read_slices(SafetensorsFile("optimizer.safetensors"), slices);
#pragma once

#include <string>

#include <ondol/io/tensor_slices.h>
#include <ondol/nn/parameter.h>

namespace ondol {

/// `flat` has the store's trainable_elements().
TensorSlices flat_slices(const ParameterStore& store, const std::string& name, const Tensor& flat);

}  // namespace ondol
