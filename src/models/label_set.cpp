#include "models/label_set.h"

#include <charconv>

#include <ondol/autograd/functions.h>

#include "models/causal_model.h"

namespace ondol {

namespace {

constexpr int64_t kMostLabels = 1 << 20;

std::vector<std::string> read_names(const JsonReader& config) {
  std::vector<std::string> names;
  if (!config.has("id2label")) {
    const int64_t count = config.get<int64_t>("num_labels", 2, between(1, static_cast<double>(kMostLabels)));
    for (int64_t i = 0; i < count; ++i) names.push_back(concat("LABEL_", i));
    return names;
  }
  const Json& map = config.child("id2label").object();
  if (map.empty()) config.fail("id2label", "names no label");
  names.resize(map.size());
  std::vector<bool> seen(names.size(), false);
  for (const auto& [id, name] : map.items()) {
    size_t number = 0;
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), number);
    if (error != std::errc() || end != id.data() + id.size() || number >= names.size() || seen[number]) {
      config.fail("id2label", concat(quoted_name(id), " is no number from 0 to ", names.size() - 1, " of its own"));
    }
    if (!name.is_string()) config.fail("id2label", concat("label ", id, " must be a string"));
    names[number] = name.get<std::string>();
    seen[number] = true;
  }
  return names;
}

}  // namespace

LabelSet read_label_set(const JsonReader& config) {
  using Problem = LabelSet::Problem;
  LabelSet set;
  set.names = read_names(config);
  if (!config.has("problem_type")) {
    set.problem = set.size() == 1 ? Problem::regression : Problem::unset;
    return set;
  }
  const std::string type =
      config.require_enum("problem_type", {"regression", "single_label_classification", "multi_label_classification"});
  set.problem = type == "regression"                    ? Problem::regression
                : type == "single_label_classification" ? Problem::single_label
                                                        : Problem::multi_label;
  return set;
}

std::vector<InputSpec> sequence_label_specs(const LabelSet& labels) {
  const std::vector<int64_t> samples = {InputSpec::kBatch}, rows = {InputSpec::kBatch, labels.size()};
  std::vector<InputSpec> specs;
  if (labels.problem == LabelSet::Problem::unset || labels.problem == LabelSet::Problem::single_label) {
    specs.push_back(
        {.name = "labels", .shape = samples, .limit = labels.size(), .ignorable = true, .role = InputSpec::target});
  }
  if (labels.is_regression() && labels.size() == 1) {
    specs.push_back({.name = "labels", .shape = samples, .dtype = DType::f32, .role = InputSpec::target});
  }
  if (labels.problem != LabelSet::Problem::single_label) {
    specs.push_back({.name = "labels", .shape = rows, .dtype = DType::f32, .role = InputSpec::target});
  }
  return specs;
}

int64_t count_sequence_labels(const Tensor& labels) {
  return labels.defined() && is_floating(labels.dtype()) ? labels.numel() : count_labels(labels);
}

Variable sequence_label_loss(const LabelSet& set, const Variable& logits, const Tensor& labels,
                             const LossScale& scale) {
  if (set.is_regression()) return functions::squared_error(logits, labels.reshape(logits.shape()), scale);
  if (set.is_multi_label(labels)) return functions::binary_cross_entropy(logits, labels, scale);
  return functions::cross_entropy(logits, labels, scale);
}

}  // namespace ondol
