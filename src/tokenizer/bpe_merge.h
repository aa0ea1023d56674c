// The merge loop of byte-pair encoding: the adjacent pair of lowest rank, the leftmost of equals, is merged until no
// pair has a rank.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include <ondol/base/error.h>

#include "tokenizer/pair_table.h"

namespace ondol::tokenization {

/// Up to so many symbols are merged by repeated scans, more with a heap.
inline constexpr size_t kMaxScannedSymbols = 48;

/// value[i] belongs to symbols i and i + 1; `length` (of each symbol, may be null) is added up. Returns how many
/// symbols are left.
inline size_t merge_by_scanning(const PairTable& merges, int32_t* symbol, PairTable::Value* value, uint32_t* length,
                                size_t count) {
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (PairTable::rank(value[i]) < PairTable::rank(value[best])) best = i;
    }
    if (value[best] == PairTable::kNone) break;
    symbol[best] = PairTable::product(value[best]);
    if (length != nullptr) length[best] += length[best + 1];
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      symbol[i] = symbol[i + 1];
      value[i - 1] = value[i];
      if (length != nullptr) length[i] = length[i + 1];
    }
    if (best + 1 < count) value[best] = merges.find(symbol[best], symbol[best + 1]);
    if (best > 0) value[best - 1] = merges.find(symbol[best - 1], symbol[best]);
  }
  return count;
}

/// A symbol of merge_with_heap(). The caller sets id, length and value, which belongs to this symbol and the next.
struct HeapSymbol {
  int32_t id;
  uint32_t length;
  PairTable::Value value;
  int32_t previous = -1, next = -1;  // -1 at the ends
};

/// O(n log n) for n symbols. What is left is the list from the first symbol along `next`.
inline void merge_with_heap(const PairTable& merges, std::vector<HeapSymbol>& symbols) {
  if (symbols.size() >= INT32_MAX) throw Error(concat("a piece of ", symbols.size(), " symbols is too long to encode"));
  const auto count = static_cast<int32_t>(symbols.size());
  // Of (rank, position); an entry is stale when the rank of its position has changed since.
  std::vector<uint64_t> heap;
  const auto entry = [](PairTable::Value value, int32_t at) {
    return uint64_t{PairTable::rank(value)} << 32 | static_cast<uint32_t>(at);
  };
  for (int32_t i = 0; i < count; ++i) {
    HeapSymbol& symbol = symbols[static_cast<size_t>(i)];
    symbol.previous = i - 1;
    symbol.next = i + 1 == count ? -1 : i + 1;
    if (symbol.next < 0) symbol.value = PairTable::kNone;
    if (symbol.value != PairTable::kNone) heap.push_back(entry(symbol.value, i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](int32_t at) {
    HeapSymbol& symbol = symbols[static_cast<size_t>(at)];
    symbol.value =
        symbol.next < 0 ? PairTable::kNone : merges.find(symbol.id, symbols[static_cast<size_t>(symbol.next)].id);
    if (symbol.value == PairTable::kNone) return;
    heap.push_back(entry(symbol.value, at));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto at = static_cast<int32_t>(static_cast<uint32_t>(top));
    HeapSymbol& left = symbols[static_cast<size_t>(at)];
    if (left.value == PairTable::kNone || PairTable::rank(left.value) != top >> 32) continue;
    HeapSymbol& right = symbols[static_cast<size_t>(left.next)];
    left.id = PairTable::product(left.value);
    left.length += right.length;
    left.next = right.next;
    right.value = PairTable::kNone;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = at;
    update(at);
    if (left.previous >= 0) update(left.previous);
  }
}

}  // namespace ondol::tokenization
