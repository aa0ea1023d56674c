#include "train/held_parts.h"

#include <algorithm>

namespace ondol {

namespace {

/// Elements [begin, end) of a parameter, as far as the file tensor has them.
void add_elements(std::vector<TensorPart>& parts, const WeightSlot& slot, const Tensor& whole, int64_t begin,
                  int64_t end, int copies) {
  const int64_t columns = whole.numel() / whole.size(0);
  const int64_t rows = slot.row_count < 0 ? whole.size(0) : slot.row_count;
  const int64_t origin = slot.row_start * columns;
  begin = std::max<int64_t>(begin - origin, 0);
  end = std::min(end - origin, rows * columns);
  if (begin >= end) return;
  const Tensor flat = whole.reshape({-1}).narrow(0, origin, rows * columns);
  if (!slot.transposed) {
    parts.push_back({.begin = begin, .values = flat.narrow(0, begin, end - begin), .copies = copies});
    return;
  }
  ONDOL_CHECK(whole.ndim() == 2, "a part of the transposed tensor \"", slot.name, "\" with ", whole.ndim(),
              " dimensions");
  while (begin < end) {  // the rest of a row, whole rows, the beginning of a row
    const int64_t row = begin / columns, column = begin % columns;
    const int64_t whole_rows = column == 0 ? (end - begin) / columns : 0;
    const int64_t length = whole_rows > 0 ? whole_rows * columns : std::min(end - begin, columns - column);
    const Tensor elements = flat.narrow(0, begin, length);
    parts.push_back({.begin = column * rows + row,
                     .values = whole_rows > 0 ? elements.reshape({whole_rows, columns}).transpose(0, 1) : elements,
                     .stride = rows,
                     .copies = copies});
    begin += length;
  }
}

}  // namespace

std::vector<TensorPart> held_parts(const ParameterStore& store, const ShardLayout& layout, const WeightSlot& slot) {
  Variable parameter = slot.parameter;
  for (const ParameterStore::SharedParameter& pair : store.shared()) {
    if (pair.other.same_as(parameter)) parameter = pair.own;
  }
  const auto& entries = store.entries();
  const auto entry = std::find_if(entries.begin(), entries.end(), [&](const ParameterStore::Entry& candidate) {
    return candidate.variable.same_as(parameter);
  });
  std::vector<TensorPart> parts;
  if (entry == entries.end() || !entry->trainable || entry->base.defined()) {  // every rank has it whole
    parts.push_back({.values = slot.view(parameter.value())});
    return parts;
  }
  const Tensor whole = entry->slice(store.flat_values());
  for (const ShardPart& part : layout.parts()) {
    add_elements(parts, slot, whole, std::max<int64_t>(part.begin - entry->offset, 0),
                 std::min(part.begin + part.length - entry->offset, whole.numel()), part.replicated ? 0 : 1);
  }
  return parts;
}

}  // namespace ondol
