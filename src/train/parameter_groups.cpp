#include "train/parameter_groups.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "train/parameter_names.h"

namespace ondol {

std::vector<ParameterSpan> parameter_spans(const OptimizerConfig& config, const Model& model, bool gradual) {
  const ParameterNames names(model);
  const std::vector<ParameterStore::Entry>& entries = model.parameters().entries();
  std::vector<const OptimizerConfig::Group*> groups(names.tensors().size(), nullptr);
  for (const OptimizerConfig::Group& group : config.groups) {
    for (const size_t i : names.find(group.match, "optimizer.groups")) groups[i] = &group;
  }
  std::set<int64_t> depths;
  for (const NamedTensor& tensor : names.tensors()) {
    if (gradual && entries[tensor.entry].trainable) depths.insert(tensor.depth);
  }
  std::vector<ParameterSpan> spans;
  for (size_t i = 0; i < names.tensors().size(); ++i) {
    const NamedTensor& tensor = names.tensors()[i];
    const ParameterStore::Entry& entry = entries[tensor.entry];
    if (!entry.trainable) continue;
    const int64_t cols = entry.shape.numel() / std::max<int64_t>(entry.shape[0], 1);
    ParameterSpan span = make_span(config, entry);
    span.begin += tensor.row_start * cols;
    (span.matrix ? span.rows : span.cols) = tensor.rows;
    if (gradual) span.group = std::distance(depths.begin(), depths.find(tensor.depth));
    const OptimizerConfig::Group* group = groups[i];
    if (group != nullptr && group->weight_decay) span.weight_decay = static_cast<float>(*group->weight_decay);
    if (group != nullptr && group->learning_rate) {
      span.rate_scale = static_cast<float>(*group->learning_rate / config.learning_rate);
    } else if (config.layer_decay != 1.0) {
      const auto steps = static_cast<double>(names.layers() + 1 - tensor.depth);
      span.rate_scale = static_cast<float>(std::pow(config.layer_decay, steps));
    }
    spans.push_back(span);
  }
  std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return spans;
}

}  // namespace ondol
