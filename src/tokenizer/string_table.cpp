#include "tokenizer/string_table.h"

#include <algorithm>
#include <bit>

#include "tokenizer/hashing.h"

namespace ondol::tokenization {

void StringTable::reserve(size_t count) {
  const size_t slots = std::bit_ceil(std::max<size_t>(16, count * 2));
  if (slots > slots_.size()) rehash(slots);
}

void StringTable::rehash(size_t slots) {
  slots_.assign(slots, -1);
  for (size_t id = 0; id < spans_.size(); ++id) {
    if (spans_[id].begin == kAbsent) continue;
    slots_[slot_of(text(static_cast<int32_t>(id)))] = static_cast<int32_t>(id);
  }
}

/// The slot of the text, or the free one where it belongs.
size_t StringTable::slot_of(std::string_view text_to_find) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash_bytes(text_to_find) & mask;
  while (slots_[slot] >= 0 && text(slots_[slot]) != text_to_find) slot = (slot + 1) & mask;
  return slot;
}

bool StringTable::add(int32_t id, std::string_view text_to_add) {
  reserve(count_ + 1);
  const size_t slot = slot_of(text_to_add);
  if (slots_[slot] >= 0 || contains(id)) return false;
  if (static_cast<size_t>(id) >= spans_.size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[static_cast<size_t>(id)] = {bytes_.size(), static_cast<uint32_t>(text_to_add.size())};
  bytes_ += text_to_add;
  slots_[slot] = id;
  ++count_;
  return true;
}

int32_t StringTable::find(std::string_view text_to_find) const {
  return slots_.empty() ? -1 : slots_[slot_of(text_to_find)];
}

std::string_view StringTable::text(int32_t id) const {
  if (!contains(id)) return {};
  const Span& span = spans_[static_cast<size_t>(id)];
  return {bytes_.data() + span.begin, span.length};
}

}  // namespace ondol::tokenization
