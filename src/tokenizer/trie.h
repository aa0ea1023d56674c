// A double-array trie (Aoe 1989) from byte strings to ids, for vocabularies.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace ondol::tokenization {

class Trie {
 public:
  using Node = uint32_t;
  static constexpr Node kRoot = 0;
  static constexpr int32_t kNone = -1;

  Trie() : Trie(std::vector<std::pair<std::string_view, int32_t>>()) {}
  /// Keys must be distinct and not empty; they are copied.
  explicit Trie(std::vector<std::pair<std::string_view, int32_t>> keys);

  /// The node one byte further; kRoot when no key goes on so.
  Node child(Node node, uint8_t byte) const {
    const Node next = cells_[node].base ^ byte;
    return cells_[next].parent == node ? next : kRoot;
  }
  /// The id of the key that ends here, kNone.
  int32_t value(Node node) const { return cells_[node].value; }
  /// The node of a text; kRoot when no key begins so (or the text is empty).
  Node walk(std::string_view text) const;

 private:
  static constexpr Node kFree = 0xffffffffu;
  struct Cell {
    uint32_t base = 0;
    Node parent = kFree;
    int32_t value = kNone;
  };

  uint32_t find_base(const std::vector<uint8_t>& labels);

  std::vector<Cell> cells_;  // a multiple of 256 of them, so that base ^ byte stays inside
  size_t search_from_ = 0;
};

}  // namespace ondol::tokenization
