#include "train/flat_slices.h"

#include <algorithm>

namespace ondol {

TensorSlices flat_slices(const ParameterStore& store, const std::string& name, const Tensor& flat) {
  if (!store.is_split()) return whole_tensor(name, flat);
  TensorSlices slices{name, {store.whole_trainable_elements()}, flat.dtype(), {}};
  std::vector<const ParameterStore::Entry*> entries;
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (entry.trainable) entries.push_back(&entry);
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto* a, const auto* b) { return a->whole_offset < b->whole_offset; });
  int64_t end = 0;  // of what comes before
  const auto pad_until = [&](int64_t begin) {
    if (begin > end) slices.parts.push_back({.begin = end, .values = Tensor::zeros({begin - end}, flat.dtype())});
  };
  for (const ParameterStore::Entry* entry : entries) {
    pad_until(entry->whole_offset);
    end = entry->whole_offset + entry->whole_shape().numel();
    const Tensor own = entry->slice(flat);
    if (entry->split == nullptr) {
      slices.parts.push_back({.begin = entry->whole_offset, .values = own.reshape({own.numel()})});
      continue;
    }
    for (const ParameterSplit::Piece& piece : entry->split->pieces(own)) {
      slices.parts.push_back({.begin = entry->whole_offset + piece.begin,
                              .values = piece.values,
                              .stride = piece.stride,
                              .copies = entry->split->copies,
                              .copy = entry->split->copy});
    }
  }
  pad_until(store.whole_trainable_elements());
  return slices;
}

}  // namespace ondol
