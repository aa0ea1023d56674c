#include "tokenizer/trie.h"

#include <algorithm>

namespace ondol::tokenization {

namespace {

constexpr size_t kBlock = 256;
/// Cells further back than this are not tried for new nodes; what is free there stays so.
constexpr size_t kSearchCells = 16 * kBlock;

}  // namespace

Trie::Trie(std::vector<std::pair<std::string_view, int32_t>> keys) : cells_(kBlock) {
  std::sort(keys.begin(), keys.end());
  cells_[kRoot].parent = kFree - 1;  // taken, and nobody's child
  struct Task {
    size_t begin, end, depth;  // keys that share their first `depth` bytes
    Node node;
  };
  std::vector<Task> tasks{{0, keys.size(), 0, kRoot}};
  std::vector<uint8_t> labels;
  std::vector<size_t> starts;
  while (!tasks.empty()) {
    Task task = tasks.back();
    tasks.pop_back();
    if (task.begin < task.end && keys[task.begin].first.size() == task.depth) {
      cells_[task.node].value = keys[task.begin++].second;
    }
    labels.clear();
    starts.clear();
    for (size_t i = task.begin; i < task.end; ++i) {
      const auto byte = static_cast<uint8_t>(keys[i].first[task.depth]);
      if (!labels.empty() && labels.back() == byte) continue;
      labels.push_back(byte);
      starts.push_back(i);
    }
    if (labels.empty()) continue;
    const uint32_t base = find_base(labels);
    cells_[task.node].base = base;
    starts.push_back(task.end);
    for (size_t k = 0; k < labels.size(); ++k) {
      const Node child = base ^ labels[k];
      cells_[child].parent = task.node;
      tasks.push_back({starts[k], starts[k + 1], task.depth + 1, child});
    }
  }
  cells_.shrink_to_fit();
}

/// A base under which the cells of all labels are free.
uint32_t Trie::find_base(const std::vector<uint8_t>& labels) {
  if (cells_.size() > kSearchCells) search_from_ = std::max(search_from_, cells_.size() - kSearchCells);
  while (search_from_ < cells_.size() && cells_[search_from_].parent != kFree) ++search_from_;
  for (size_t cell = search_from_; cell < cells_.size(); ++cell) {
    if (cells_[cell].parent != kFree) continue;
    const auto base = static_cast<uint32_t>(cell) ^ labels[0];
    const bool fits =
        std::all_of(labels.begin(), labels.end(), [&](uint8_t byte) { return cells_[base ^ byte].parent == kFree; });
    if (fits) return base;
  }
  const auto base = static_cast<uint32_t>(cells_.size());
  cells_.resize(cells_.size() + kBlock);
  return base;
}

Trie::Node Trie::walk(std::string_view text) const {
  Node node = kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    node = child(node, static_cast<uint8_t>(text[i]));
    if (node == kRoot) break;
  }
  return node;
}

}  // namespace ondol::tokenization
