#include "train/element_parts.h"

#include <algorithm>

namespace ondol {

Holders holders_of(const ParameterStore::Entry& entry, bool alone, const TensorPlace& place) {
  if (entry.split == nullptr) return alone ? Holders{place.ranks, place.rank} : Holders{};
  return alone ? Holders{1, 0} : Holders{entry.split->copies, entry.split->copy};
}

WeightSlot whole_slot(const ParameterStore::Entry& entry) {
  WeightSlot slot = entry.slot();
  if (entry.split == nullptr) return slot;
  slot.shape = entry.split->whole;
  slot.split_dim = entry.split->dim;
  int64_t own = 0;
  for (const ParameterSplit::Range& range : entry.split->ranges) {
    slot.pieces.push_back({own, range.begin, range.length});
    own += range.length;
  }
  return slot;
}

void add_elements(std::vector<TensorPart>& parts, const WeightSlot& slot, const Shape& shape, int64_t begin,
                  const Tensor& values, const Holders& holders) {
  using Pieces = std::vector<WeightSlot::Piece>;
  if (values.numel() == 0) return;
  const int64_t columns = shape.numel() / shape[0], end = begin + values.numel();
  const int64_t rows = slot.row_count < 0 ? shape[0] : slot.row_count;
  const bool rows_in_pieces = !slot.pieces.empty() && (slot.split_dim == 1) == slot.transposed;
  const bool columns_in_pieces = !slot.pieces.empty() && !rows_in_pieces;
  const Pieces row_pieces = rows_in_pieces ? slot.pieces : Pieces{{0, 0, rows}};
  const Pieces column_pieces = columns_in_pieces ? slot.pieces : Pieces{{0, 0, columns}};
  const bool whole_rows = !slot.transposed && !columns_in_pieces;  // which lie behind each other in the file, too
  ONDOL_CHECK(whole_rows || shape.ndim() == 2, "a part of the tensor \"", slot.name, "\" with ", shape.ndim(),
              " dimensions");
  const int64_t file_row = whole_rows ? columns : slot.shape[1];
  for (const WeightSlot::Piece& piece : row_pieces) {
    const int64_t first_row = slot.row_start + piece.own;
    int64_t from = std::max(begin, first_row * columns);
    const int64_t to = std::min(end, (first_row + piece.length) * columns);
    if (from >= to) continue;
    const int64_t shift = piece.whole - first_row;  // from the own row to that of the file's tensor
    if (whole_rows) {
      parts.push_back({.begin = from + shift * columns,
                       .values = values.narrow(0, from - begin, to - from),
                       .copies = holders.copies,
                       .copy = holders.copy});
      continue;
    }
    while (from < to) {  // the rest of a row, whole rows, the beginning of a row
      const int64_t row = from / columns, column = from % columns;
      const int64_t count = column == 0 ? std::max<int64_t>(1, (to - from) / columns) : 1;
      const int64_t length = std::min(to - from, count * columns - column), width = length / count;
      const Tensor block = values.narrow(0, from - begin, length).reshape({count, width});
      for (const WeightSlot::Piece& across : column_pieces) {
        const int64_t left = std::max(column, across.own);
        const int64_t right = std::min(column + width, across.own + across.length);
        if (left >= right) continue;
        const Tensor part = block.narrow(1, left - column, right - left);
        const int64_t file_column = left - across.own + across.whole;
        parts.push_back(
            {.begin = slot.transposed ? file_column * file_row + row + shift : (row + shift) * file_row + file_column,
             .values = slot.transposed ? part.transpose(0, 1) : part,
             .stride = file_row,
             .copies = holders.copies,
             .copy = holders.copy});
      }
      from += length;
    }
  }
}

}  // namespace ondol
