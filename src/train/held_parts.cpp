#include "train/held_parts.h"

#include <algorithm>

#include "train/element_parts.h"

namespace ondol {

std::vector<TensorPart> held_parts(const ParameterStore& store, const ShardLayout& layout, const WeightSlot& slot,
                                   const TensorPlace& place) {
  Variable parameter = slot.parameter;
  for (const ParameterStore::SharedParameter& pair : store.shared()) {
    if (pair.other.same_as(parameter)) parameter = pair.own;
  }
  const auto& entries = store.entries();
  const auto entry = std::find_if(entries.begin(), entries.end(), [&](const ParameterStore::Entry& candidate) {
    return candidate.variable.same_as(parameter);
  });
  std::vector<TensorPart> parts;
  if (entry == entries.end() || entry->base.defined()) {  // every rank has it whole
    parts.push_back({.values = slot.view(parameter.value())});
    return parts;
  }
  const Tensor own = entry->slice(store.flat_values()).reshape({-1});
  if (!entry->trainable) {
    add_elements(parts, slot, entry->shape, 0, own, holders_of(*entry, false, place));
    return parts;
  }
  for (const ShardPart& part : layout.parts()) {
    const int64_t begin = std::max<int64_t>(part.begin - entry->offset, 0);
    const int64_t end = std::min(part.begin + part.length - entry->offset, own.numel());
    if (begin >= end) continue;
    add_elements(parts, slot, entry->shape, begin, own.narrow(0, begin, end - begin),
                 holders_of(*entry, !part.replicated, place));
  }
  return parts;
}

}  // namespace ondol
