// What one process has of the tensors of a file that several processes write together, or read each its own part of.
//
//   TensorSlices step = whole_tensor("exp_avg", flat);                     // every process has all of it
//   TensorSlices slices{.name = "exp_avg", .shape = {1000}, .dtype = DType::f32};
//   slices.parts.push_back({.begin = 256, .values = own, .copies = 1});    // elements [256, 256 + own.size(0)), ours
//   alone slices.parts.push_back({.begin = 768, .values = tail});                // every process has these for (const
//   TensorPart& part : own_share(slices, 0, rank, ranks)) ...   // what this process writes of it
//   read_slices(SafetensorsFile("optimizer.safetensors"), slices);         // fills own and tail
//
// Places are elements of the whole tensor, row-major as it lies in the file. The parts of all processes together cover
// the tensor, each element once (copies of a part count once). What nobody holds (padding of a flat buffer) is stated
// as a part of zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <ondol/io/safetensors.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

/// values[i], for every i in [0, values.size(0)), is a run of consecutive elements of the whole tensor that begins at
/// begin + i * stride. Any device, any strides in memory.
struct TensorPart {
  int64_t begin = 0;
  Tensor values;
  int64_t stride = 0;  // 0: the runs follow each other
  /// How many processes hold this very part (the same begin and shape), and the place of this one among them, from 0.
  /// copies 0: all processes that write the file do, in the order of their ranks.
  int copies = 0, copy = 0;

  /// Elements of a run.
  int64_t run() const { return values.numel() / std::max<int64_t>(values.size(0), 1); }
  /// Runs [first, first + count).
  TensorPart runs(int64_t first, int64_t count) const;
};

struct TensorSlices {
  std::string name;
  Shape shape;               // of the whole tensor
  DType dtype = DType::f32;  // in the file; parts of another type are converted on the way
  std::vector<TensorPart> parts;
};

/// A tensor that every process has.
TensorSlices whole_tensor(const std::string& name, const Tensor& values);

/// The parts, or pieces of parts, that process `rank` of `ranks` writes: what several hold is shared out between them
/// in pieces of about 1 MiB. `number`: of the tensor in its file; small tensors go round by it. Throws Error when a
/// part lies outside the tensor.
std::vector<TensorPart> own_share(const TensorSlices& slices, int64_t number, int rank, int ranks);

/// Fills the parts from the tensor of that name, which must have the shape and dtype; memory of the file is given back
/// behind them. Throws Error naming the tensor.
void read_slices(const SafetensorsFile& file, const TensorSlices& slices);

}  // namespace ondol
