// What losses on top of an output projection share: which rows they compute, and how many at a time.
#pragma once

#include <cstdint>

#include <ondol/tensor/tensor.h>

namespace ondol::ops {

/// The rows that count, gathered together; all of them when none is ignored or labels are not on the host.
struct CountingRows {
  Tensor labels;  // (rows)
  Tensor kept;    // (rows) i32: which of all rows each one is; undefined: all of them, in order
  Tensor places;  // (all rows) i32: the place among the rows kept, or their number for a row that does not count

  int64_t count() const { return labels.numel(); }
  /// Those rows of x (all rows, C).
  Tensor gather(const Tensor& x) const;
  /// The same for i32; x (all rows) or (all rows, n), contiguous.
  Tensor gather_indices(const Tensor& x) const;
  /// Rows that such a tensor of results needs for spread().
  int64_t rows_to_spread() const { return count() + (places.defined() ? 1 : 0); }
  /// The other way: x (rows_to_spread(), C) with its rows back in their places and zeros elsewhere (all rows, C). The
  /// row behind the last one is overwritten.
  Tensor spread(const Tensor& x) const;
};

/// labels: contiguous, checked.
CountingRows find_counting_rows(const Tensor& labels, int32_t ignore_index);

/// Rows of a chunk: enough that the weight and its gradient, which every chunk reads whole, cost little beside the
/// products; few enough that the logits take no more than the device's chunk_bytes (or 128 rows); equal chunks.
int64_t default_chunk_rows(int64_t rows, int64_t vocab_size, Device device);

}  // namespace ondol::ops
