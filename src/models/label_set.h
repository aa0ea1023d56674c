// What a model with a classification head tells its labels by, as Hugging Face configs say it: id2label, num_labels,
// problem_type; and the loss that follows from it.
#pragma once

#include <string>
#include <vector>

#include <ondol/models/model.h>

#include "base/json_reader.h"

namespace ondol {

struct LabelSet {
  enum class Problem {
    unset,  // one label or several at once, as the labels' type says
    regression,
    single_label,
    multi_label,
  };
  std::vector<std::string> names;  // "LABEL_0", ... where the config has none
  Problem problem = Problem::unset;

  int64_t size() const { return static_cast<int64_t>(names.size()); }
  bool is_regression() const { return problem == Problem::regression; }
  bool is_multi_label(const Tensor& labels) const {
    return problem == Problem::multi_label || (problem == Problem::unset && is_floating(labels.dtype()));
  }
};

/// Two labels when the config names none. Throws UsageError on labels that are not numbered from 0.
LabelSet read_label_set(const JsonReader& config);

/// One label (or several, or values) for each sample: the forms that "labels" may have.
std::vector<InputSpec> sequence_label_specs(const LabelSet& labels);
int64_t count_sequence_labels(const Tensor& labels);
/// logits (B, n) against labels: cross-entropy, squared error or binary cross-entropy.
Variable sequence_label_loss(const LabelSet& set, const Variable& logits, const Tensor& labels, const LossScale& scale);

}  // namespace ondol
