#include <ondol/metrics/entities.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include <ondol/base/error.h>

namespace ondol::metrics {

namespace {

struct Tag {
  char mark = 'O';        // of B, I, O, E, S
  std::string_view type;  // empty outside
};

Tag parse(std::string_view label) {
  if (label.empty() || label == "O") return {};
  const char mark = label.front();
  label.remove_prefix(1);
  const size_t dash = label.find('-');
  if (dash != std::string_view::npos) label.remove_prefix(dash + 1);
  return {mark, label.empty() ? std::string_view("_") : label};
}

bool goes_on(const Tag& before, const Tag& tag) {
  if (before.mark == 'O' || tag.mark == 'O' || before.type != tag.type) return false;
  if (before.mark == 'E' || before.mark == 'S') return false;
  return tag.mark != 'B' && tag.mark != 'S';
}

}  // namespace

std::vector<Entity> find_entities(std::span<const std::string> labels) {
  std::vector<Entity> entities;
  Tag before;
  for (size_t i = 0; i < labels.size(); ++i) {
    const Tag tag = parse(labels[i]);
    if (goes_on(before, tag)) {
      ++entities.back().end;
    } else if (tag.mark != 'O') {
      entities.push_back({std::string(tag.type), i, i + 1});
    }
    before = tag;
  }
  return entities;
}

EntityScores entity_scores(std::span<const std::vector<std::string>> predicted,
                           std::span<const std::vector<std::string>> expected) {
  ONDOL_CHECK(predicted.size() == expected.size(), "entities of ", predicted.size(), " and of ", expected.size(),
              " sentences cannot be compared");
  int64_t right = 0, found = 0, right_labels = 0, labels = 0;
  EntityScores scores;
  for (size_t i = 0; i < predicted.size(); ++i) {
    ONDOL_CHECK(predicted[i].size() == expected[i].size(), "sentence ", i, " has ", predicted[i].size(),
                " predicted labels and ", expected[i].size(), " expected ones");
    const std::vector<Entity> ours = find_entities(predicted[i]), theirs = find_entities(expected[i]);
    found += static_cast<int64_t>(ours.size());
    scores.expected += static_cast<int64_t>(theirs.size());
    for (const Entity& entity : ours) right += std::find(theirs.begin(), theirs.end(), entity) != theirs.end() ? 1 : 0;
    labels += static_cast<int64_t>(expected[i].size());
    for (size_t t = 0; t < expected[i].size(); ++t) right_labels += predicted[i][t] == expected[i][t] ? 1 : 0;
  }
  const auto share = [](int64_t part, int64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  scores.precision = share(right, found);
  scores.recall = share(right, scores.expected);
  scores.f1 = share(2 * right, found + scores.expected);
  scores.accuracy = share(right_labels, labels);
  return scores;
}

}  // namespace ondol::metrics
