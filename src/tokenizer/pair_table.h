// Open-addressing hash table from a pair of ids to rank and product of its merge.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace ondol::tokenization {

class PairTable {
 public:
  /// Rank in the upper half and product in the lower one: comparing values compares ranks.
  using Value = uint64_t;
  static constexpr Value kNone = ~Value{0};
  static Value make_value(uint32_t rank, int32_t product) { return Value{rank} << 32 | static_cast<uint32_t>(product); }
  static uint32_t rank(Value value) { return static_cast<uint32_t>(value >> 32); }
  static int32_t product(Value value) { return static_cast<int32_t>(static_cast<uint32_t>(value)); }

  void reserve(size_t count) {
    const size_t slots = std::bit_ceil(std::max<size_t>(16, count * 2));
    slots_.assign(slots, Slot{});
    shift_ = 64 - std::countr_zero(slots);
  }

  /// Needs room from reserve(). A pair given twice keeps its last value.
  void insert(int32_t left, int32_t right, Value value) {
    const uint64_t key = key_of(left, right);
    size_t slot = home(key);
    while (slots_[slot].key != kFree && slots_[slot].key != key) slot = next(slot);
    slots_[slot] = {key, value};
  }

  Value find(int32_t left, int32_t right) const {
    const uint64_t key = key_of(left, right);
    for (size_t slot = home(key);; slot = next(slot)) {
      if (slots_[slot].key == key) return slots_[slot].value;
      if (slots_[slot].key == kFree) return kNone;
    }
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    Value value = kNone;
  };
  static uint64_t key_of(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t home(uint64_t key) const {
    key = (key ^ key >> 29) * 0x9e3779b97f4a7c15u;
    return key >> shift_;
  }
  size_t next(size_t slot) const { return (slot + 1) & (slots_.size() - 1); }

  std::vector<Slot> slots_ = std::vector<Slot>(16);
  int shift_ = 60;
};

}  // namespace ondol::tokenization
