// A bounded cache from pieces to their ids, for one thread. Pieces of up to 16 bytes are compared as two words; longer
// ones keep their bytes in an arena. A full neighbourhood overwrites its first slot; a full arena empties the cache.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/hashing.h"

namespace ondol::tokenization {

class PieceCache {
 public:
  static constexpr size_t kMaxLength = 64;

  struct Key {
    explicit Key(std::string_view piece) : text(piece) {
      if (piece.size() <= 16) {
        words = short_key(piece.data(), piece.size());
        hash = hash_words(words.low, words.high + piece.size());
      } else {
        hash = hash_bytes(piece);
        words = {hash, 0};
      }
    }
    std::string_view text;
    ShortKey words;
    uint64_t hash;
  };

  PieceCache() : slots_(kSlots) {}

  /// Appends the ids of the piece; false when it is not cached.
  bool append(const Key& key, std::vector<int32_t>& ids) const {
    const Slot* slot = &slots_[key.hash & (kSlots - kWays)];
    for (size_t way = 0; way < kWays; ++way, ++slot) {
      if (slot->length != key.text.size() || slot->low != key.words.low || !same_tail(*slot, key)) continue;
      if (slot->count == 1) {
        ids.push_back(slot->ids[0]);
      } else {
        const int32_t* from = slot->count <= kInlineIds ? slot->ids : long_ids_.data() + slot->ids[0];
        ids.insert(ids.end(), from, from + slot->count);
      }
      return true;
    }
    return false;
  }

  void store(const Key& key, std::span<const int32_t> ids) {
    if (long_ids_.size() + long_text_.size() > kArenaLimit) clear();
    Slot* slot = &slots_[key.hash & (kSlots - kWays)];
    Slot* end = slot + kWays;
    Slot* target = slot;
    for (; slot < end; ++slot) {
      if (slot->length == 0) {
        target = slot;
        break;
      }
    }
    target->low = key.words.low;
    target->high = key.words.high;
    target->length = static_cast<uint16_t>(key.text.size());
    target->count = static_cast<uint16_t>(ids.size());
    if (key.text.size() > 16) {
      target->high = long_text_.size();
      long_text_ += key.text;
    }
    if (ids.size() <= kInlineIds) {
      std::memcpy(target->ids, ids.data(), ids.size() * sizeof(int32_t));
    } else {
      target->ids[0] = static_cast<int32_t>(long_ids_.size());
      long_ids_.insert(long_ids_.end(), ids.begin(), ids.end());
    }
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 16;
  static constexpr size_t kWays = 4;
  static constexpr size_t kInlineIds = 3;
  static constexpr size_t kArenaLimit = size_t{1} << 22;

  struct Slot {
    uint64_t low = 0, high = 0;
    uint16_t length = 0, count = 0;  // bytes of the piece (0: free), number of ids
    int32_t ids[kInlineIds] = {};    // more ids than this: ids[0] is their place in long_ids_
  };

  bool same_tail(const Slot& slot, const Key& key) const {
    if (key.text.size() <= 16) return slot.high == key.words.high;
    return std::memcmp(long_text_.data() + slot.high, key.text.data(), key.text.size()) == 0;
  }

  void clear() {
    slots_.assign(kSlots, Slot{});
    long_ids_.clear();
    long_text_.clear();
  }

  std::vector<Slot> slots_;
  std::vector<int32_t> long_ids_;
  std::string long_text_;
};

}  // namespace ondol::tokenization
