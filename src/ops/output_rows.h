// What losses on top of an output projection share: which rows they compute, how many at a time, and the way from a
// chunk of logits to the gradients.
#pragma once

#include <cstdint>
#include <functional>

#include <ondol/ops/loss.h>
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

/// labels, contiguous, checked against logits (rows, V).
Tensor check_labels(const char* op, const Tensor& labels, const Tensor& like, int64_t rows, int64_t vocab_size,
                    int32_t ignore_index);

/// Where the scale's factor lies, checked; null when there is none.
const float* factor_of(const char* op, const LossScale& scale, const Tensor& like);

/// scale times the sum of losses (rows).
Tensor scaled_sum(const Tensor& losses, const LossScale& scale);

/// Logits hidden weight^T + bias of the rows that count, never held whole: a chunk of them at a time.
class ChunkedProjection {
 public:
  /// hidden (.., C), weight (V, C), labels (..). Throws, naming op, where they do not go together.
  ChunkedProjection(const char* op, const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                   const OutputProjectionOptions& options);

  const CountingRows& counting() const { return counting_; }
  int64_t all_rows() const { return all_rows_; }
  int64_t rows() const { return counting_.count(); }
  int64_t vocab_size() const { return weight_.size(0); }
  /// The most rows of a chunk.
  int64_t chunk_rows() const { return chunk_; }

  /// Calls turn(logits (n, V) f32, the first one's place among the rows that count) for each chunk. With gradients it
  /// leaves the loss's gradient in the logits' place, from which those of hidden, weight and bias are formed.
  OutputProjectionGradients run(const std::function<void(const Tensor&, int64_t)>& turn) const;

 private:
  OutputProjectionGradients make_gradients() const;

  const char* op_;
  Tensor hidden_, weight_;
  OutputProjectionOptions options_;
  int64_t all_rows_, chunk_;
  CountingRows counting_;
};

}  // namespace ondol::ops
