// What the directory of a model holds, before anything of it is written.
//
//   const ModelFiles files = model_files(model);
//   for (const SlicedFile& file : files.weights) ...     // each process writes its share of them
//   for (const TextFile& file : files.texts) ...
#pragma once

#include <string>
#include <vector>

#include <ondol/models/model.h>

#include "io/sliced_file.h"

namespace ondol {

struct TextFile {
  std::string name, text;
};

struct ModelFiles {
  std::vector<SlicedFile> weights;
  std::vector<TextFile> texts;
};

/// Of a model with an adapter the adapter alone. The parts are views of the model's values, not copies.
ModelFiles model_files(const Model& model, const SaveOptions& options = {});

/// The same for the adapter.
ModelFiles adapter_files(const Model& model, const SaveOptions& options = {});

/// One weight among them, as `dtype` when it is of floating point.
TensorSlices weight_slices(const WeightSlot& slot, DType dtype, const HeldParts& held);

}  // namespace ondol
