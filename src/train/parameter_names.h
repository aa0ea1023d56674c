// The names by which a configuration speaks of parameters: those of the tensors in the model's files.
//
//   const ParameterNames names(*model);
//   for (const size_t i : names.find("encoder.layer.0", "train.freeze")) ...names.tensors()[i].entry...
//
// A pattern (models/name_pattern.h) matches a name when it matches some of its components in a row.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ondol/models/model.h>

namespace ondol {

/// One tensor of the model's files, or a parameter that no file has: rows of an entry of the ParameterStore.
struct NamedTensor {
  std::string name;
  size_t entry = 0;
  int64_t row_start = 0, rows = 0;
  /// How many layers, counted from the input, lie at or below it: 0 for embeddings, 1 for the first layer, those of a
  /// decoder counted on from the encoder's; layers() + 1 for what stands on top of them (final norms, heads).
  int64_t depth = 0;
};

class ParameterNames {
 public:
  explicit ParameterNames(const Model& model);

  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  int64_t layers() const { return layers_; }

  /// Indices of the tensors that match. Throws UsageError naming the setting, and a name that may be meant, when there
  /// are none.
  std::vector<size_t> find(const std::string& pattern, const std::string& setting) const;

 private:
  std::vector<NamedTensor> tensors_;
  int64_t layers_ = 0;
};

}  // namespace ondol
