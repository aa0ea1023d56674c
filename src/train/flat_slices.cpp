#include "train/flat_slices.h"

#include <algorithm>

#include "train/element_parts.h"

namespace ondol {

namespace {

/// The parts of one parameter.
void add_entry(std::vector<TensorPart>& parts, const ParameterStore::Entry& entry,
               const std::vector<FlatStretch>& stretches, const TensorPlace& place) {
  const WeightSlot slot = whole_slot(entry);
  std::vector<TensorPart> own;
  for (const FlatStretch& stretch : stretches) {
    const int64_t begin = std::max(stretch.begin, entry.offset);
    const int64_t end = std::min(stretch.begin + stretch.values.numel(), entry.offset + entry.shape.numel());
    if (begin >= end) continue;
    add_elements(own, slot, entry.shape, begin - entry.offset,
                 stretch.values.narrow(0, begin - stretch.begin, end - begin), holders_of(entry, stretch.alone, place));
  }
  for (TensorPart& part : own) {
    part.begin += entry.whole_offset;
    parts.push_back(std::move(part));
  }
}

}  // namespace

TensorSlices flat_slices(const ParameterStore& store, const std::string& name, const Tensor& flat) {
  return store.is_split() ? flat_slices(store, name, {{.begin = 0, .values = flat}}, {}) : whole_tensor(name, flat);
}

TensorSlices flat_slices(const ParameterStore& store, const std::string& name,
                         const std::vector<FlatStretch>& stretches, const TensorPlace& place) {
  const DType dtype = stretches.at(0).values.dtype();
  TensorSlices slices{name, {store.whole_trainable_elements()}, dtype, {}};
  if (!store.is_split()) {
    for (const FlatStretch& stretch : stretches) {
      slices.parts.push_back({.begin = stretch.begin, .values = stretch.values, .copies = stretch.alone ? 1 : 0});
    }
    return slices;
  }
  std::vector<const ParameterStore::Entry*> entries;
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (entry.trainable) entries.push_back(&entry);
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto* a, const auto* b) { return a->whole_offset < b->whole_offset; });
  int64_t end = 0;  // of what comes before
  const auto pad_until = [&](int64_t begin) {
    if (begin > end) slices.parts.push_back({.begin = end, .values = Tensor::zeros({begin - end}, dtype)});
  };
  for (const ParameterStore::Entry* entry : entries) {
    pad_until(entry->whole_offset);
    end = entry->whole_offset + entry->whole_shape().numel();
    add_entry(slices.parts, *entry, stretches, place);
  }
  pad_until(store.whole_trainable_elements());
  return slices;
}

}  // namespace ondol
