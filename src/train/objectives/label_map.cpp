#include "train/objectives/label_map.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "base/json_reader.h"

namespace ondol {

namespace {

std::optional<int64_t> whole_number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 20;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) text += (i > 0 ? ", " : "") + quoted_name(names[i]);
  return names.size() > kMost ? concat(text, ", … (", names.size(), ")") : text;
}

}  // namespace

LabelMap::LabelMap(std::vector<std::string> names) : names_(std::move(names)) {
  for (size_t i = 0; i < names_.size(); ++i) numbers_.emplace(names_[i], static_cast<int32_t>(i));
}

int32_t LabelMap::number(const std::string& name, const Record& record) const {
  if (const auto found = numbers_.find(name); found != numbers_.end()) return found->second;
  const std::optional<int64_t> number = whole_number(name);
  if (number && *number >= 0 && *number < size()) return static_cast<int32_t>(*number);
  record.fail(concat("label ", quoted_name(name), " is unknown, known are ", listed(names_)),
              "objective.labels lists all labels; without it they are collected from data.train");
}

std::vector<std::string> read_labels(const JsonReader& section) {
  const auto labels = section.get<std::vector<std::string>>("labels", {});
  std::set<std::string> seen;
  for (const std::string& label : labels) {
    if (label.empty()) section.fail("labels", "a label without a name");
    if (!seen.insert(label).second) section.fail("labels", concat(quoted_name(label), " is there twice"));
  }
  if (labels.size() == 1) section.fail("labels", "one label leaves nothing to choose");
  return labels;
}

std::vector<std::string> sorted_labels(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (std::all_of(names.begin(), names.end(), [](const std::string& name) { return whole_number(name).has_value(); })) {
    std::stable_sort(names.begin(), names.end(),
                     [](const std::string& a, const std::string& b) { return *whole_number(a) < *whole_number(b); });
  }
  return names;
}

std::vector<std::string> choose_labels(const std::vector<std::string>& configured, Head head, const Model& base,
                                       const RecordScan& training,
                                       const std::function<std::vector<std::string>(const Record&)>& names_of) {
  if (!configured.empty()) return configured;
  if (base.info().head == head && !base.info().regression) return base.info().labels;
  std::set<std::string> seen;
  training([&](const Record& record) {
    for (std::string& name : names_of(record)) seen.insert(std::move(name));
  });
  std::vector<std::string> labels = sorted_labels({seen.begin(), seen.end()});
  if (labels.size() < 2) {
    throw UsageError(concat("the training data have ",
                            labels.empty() ? "no label" : "one label only: " + listed(labels), " (data.train)"),
                     "objective.labels names all labels");
  }
  return labels;
}

LabelMap labels_of_model(const Model& model, Head head, const std::vector<std::string>& configured,
                         const std::string& objective) {
  const ModelInfo& info = model.info();
  if (info.head != head) {
    throw UsageError(concat("objective \"", objective, "\" needs another head than ", info.architecture, " has"),
                     "the head of a run is that of its first stage");
  }
  if (!configured.empty() && configured != info.labels) {
    throw UsageError(concat("objective.labels (", listed(configured), ") are not the labels of the model (",
                            listed(info.labels), ")"),
                     "start over with --resume never");
  }
  return LabelMap(info.labels);
}

}  // namespace ondol
