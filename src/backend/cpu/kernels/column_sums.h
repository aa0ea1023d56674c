// Reductions over the rows of (rows, cols) matrices. Whole rows are streamed, four at a time, onto a row of partial
// results that stays in the cache; groups of rows, their number a function of the shape, are combined in order.
#pragma once

#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/scratch.h"
#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {

struct RowSum {
  static Floats neutral() { return splat(0.0f); }
  static Floats combine(Floats a, Floats b) { return a + b; }
};
struct RowMax {
  static Floats neutral() { return splat(-__builtin_inff()); }
  static Floats combine(Floats a, Floats b) { return select(is_nan(a), a, max(a, b)); }  // max gives b when b is NaN
};

/// How a matrix is cut: groups of rows, and panels of columns whose partial results fit into the first cache.
struct ColumnPieces {
  static constexpr int64_t kMinGroupRows = 64;
  static constexpr int64_t kMaxGroups = 32;
  static constexpr int64_t kPanelCols = 2048;
  int64_t group_rows, groups, panels;

  ColumnPieces(int64_t rows, int64_t cols) {
    const int64_t share = ((rows + kMaxGroups - 1) / kMaxGroups + 3) / 4 * 4;
    group_rows = share > kMinGroupRows ? share : kMinGroupRows;
    groups = rows == 0 ? 1 : (rows + group_rows - 1) / group_rows;
    panels = (cols + kPanelCols - 1) / kPanelCols;
  }
};

/// folded[c - first] = the rows [begin, end) of the columns [first, last) combined. value(row, c, lanes) is asked for
/// once for each element.
template <class Kind, class Value>
inline void fold_rows(int64_t begin, int64_t end, int64_t first, int64_t last, float* folded, const Value& value) {
  if (begin >= end) {
    for_each_vector(last - first, [&](int64_t i, auto n) { store_lanes(folded + i, Kind::neutral(), n); });
  }
  int64_t row = begin;
  for (; row + 4 <= end; row += 4) {
    for_each_vector(first, last, [&](int64_t c, auto n) {
      Floats four = Kind::combine(Kind::combine(value(row, c, n), value(row + 1, c, n)),
                                  Kind::combine(value(row + 2, c, n), value(row + 3, c, n)));
      if (row > begin) four = Kind::combine(load_lanes(folded + c - first, n), four);
      store_lanes(folded + c - first, four, n);
    });
  }
  for (; row < end; ++row) {
    for_each_vector(first, last, [&](int64_t c, auto n) {
      Floats one = value(row, c, n);
      if (row > begin) one = Kind::combine(load_lanes(folded + c - first, n), one);
      store_lanes(folded + c - first, one, n);
    });
  }
}

/// finish(outer index, c, lanes, result) for the columns of `outer` matrices; value(outer index, row, c, lanes).
template <class Kind, class Value, class Finish>
inline void fold_columns(int64_t outer, int64_t rows, int64_t cols, Scratch& scratch, const Value& value,
                         const Finish& finish) {
  const ColumnPieces pieces(rows, cols);
  constexpr int64_t kPanel = ColumnPieces::kPanelCols;
  const int64_t width = cols < kPanel ? (cols + 15) / 16 * 16 : kPanel;  // of a panel's partial results
  const int64_t slabs = outer * pieces.panels;
  float* partial = scratch.get<float>(slabs * pieces.groups * width);
  const auto columns = [&](int64_t slab, auto&& body) {
    const int64_t first = slab % pieces.panels * kPanel;
    body(slab / pieces.panels, first, first + kPanel < cols ? first + kPanel : cols);
  };
  parallel_for(slabs * pieces.groups, 8192 / (pieces.group_rows * width) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t group = task / slabs, slab = task % slabs;  // a group's panels one after the other
      columns(slab, [&](int64_t o, int64_t first, int64_t last) {
        const int64_t row = group * pieces.group_rows;
        const int64_t row_end = row + pieces.group_rows < rows ? row + pieces.group_rows : rows;
        fold_rows<Kind>(row, row_end, first, last, partial + (slab * pieces.groups + group) * width,
                        [&](int64_t r, int64_t c, auto n) { return value(o, r, c, n); });
      });
    }
  });
  parallel_for(slabs, 8192 / (pieces.groups * width) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t slab = begin; slab < end; ++slab) {
      columns(slab, [&](int64_t o, int64_t first, int64_t last) {
        const float* parts = partial + slab * pieces.groups * width;
        for_each_vector(first, last, [&](int64_t c, auto n) {
          Floats result = load_lanes(parts + c - first, n);
          for (int64_t group = 1; group < pieces.groups; ++group) {
            result = Kind::combine(result, load_lanes(parts + group * width + c - first, n));
          }
          finish(o, c, n, result);
        });
      });
    }
  });
}

}  // namespace ondol::cpu::ONDOL_ISA
