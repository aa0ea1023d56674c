// Names of labels and their numbers.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include <ondol/train/objective.h>

#include "data/record.h"

namespace ondol {

class LabelMap {
 public:
  LabelMap() = default;
  explicit LabelMap(std::vector<std::string> names);

  int64_t size() const { return static_cast<int64_t>(names_.size()); }
  const std::vector<std::string>& names() const { return names_; }
  /// By name, else a number below size(). Fails with the record's place and the known names.
  int32_t number(const std::string& name, const Record& record) const;

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::string, int32_t> numbers_;
};

/// "objective.labels"; throws UsageError on empty or repeated names.
std::vector<std::string> read_labels(const JsonReader& section);

/// Sorted, by value where all are whole numbers, and each once.
std::vector<std::string> sorted_labels(std::vector<std::string> names);

/// The labels of a new head: those of the configuration; else those of a model that has this head already; else those
/// that `names_of` finds in the training data. Throws UsageError when that is less than two.
std::vector<std::string> choose_labels(const std::vector<std::string>& configured, Head head, const Model& base,
                                       const RecordScan& training,
                                       const std::function<std::vector<std::string>(const Record&)>& names_of);

/// The labels of the model, as the encoder of an objective needs them. Throws UsageError when the model has another
/// head, or labels other than those that are configured.
LabelMap labels_of_model(const Model& model, Head head, const std::vector<std::string>& configured,
                         const std::string& objective);

}  // namespace ondol
