// The part of a parameter that one process of a tensor-parallel group holds: rows or columns of the whole.
//
//   // Of a fused projection of 64 query, 16 key and 16 value rows, the share of process 1 of 2.
//   const ParameterSplit split = split_parameter({96, 32}, 0, {64, 16, 16}, 1, 2);
//   split.shape();                                 // (48, 32)
//   split.ranges;                                  // [32, 64), [72, 80), [88, 96) of the rows of the whole
//
// What a process holds keeps the order of the whole: the ranges lie one behind the other.
#pragma once

#include <cstdint>
#include <vector>

#include <ondol/tensor/tensor.h>

namespace ondol {

struct ParameterSplit {
  struct Range {
    int64_t begin = 0, length = 0;
  };

  Shape whole;
  int dim = 0;                // that is split; 0 or 1
  std::vector<Range> ranges;  // of that dimension of the whole, rising
  int copies = 1, copy = 0;   // processes of the job that hold the same part, and the place of this one among them

  /// Of what this process holds.
  Shape shape() const;
  /// The index in the whole's dimension for each index of the process's own.
  std::vector<int64_t> indices() const;

  /// A range in a tensor of the process's own shape, and where it lies in the whole: values[i] is a run of consecutive
  /// elements of the whole that begins at begin + i * stride.
  struct Piece {
    Tensor values;
    int64_t begin = 0, stride = 0;
  };
  std::vector<Piece> pieces(const Tensor& own) const;
};

/// Process `rank` of `ranks` gets its share, in order, of each of the parts that follow each other along the dimension
/// (together all of it). Throws Error when a part cannot be shared out evenly.
ParameterSplit split_parameter(const Shape& whole, int dim, const std::vector<int64_t>& parts, int rank, int ranks);

}  // namespace ondol
