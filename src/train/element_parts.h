// A stretch of the elements of a parameter as parts of the tensor in a file.
//
//   std::vector<TensorPart> parts;
//   add_elements(parts, slot, entry.shape, begin, values, {.copies = 1});    // elements [begin, begin +
//   values.numel())
//
// A stretch may begin and end within a row, and the file may have the parameter transposed, some rows of it alone, or
// the columns and rows that other processes hold between those of this one (WeightSlot::pieces).
#pragma once

#include <vector>

#include <ondol/io/tensor_slices.h>
#include <ondol/models/tensor_parallel.h>
#include <ondol/nn/parameter.h>

namespace ondol {

/// How many processes hold the same elements, and the place of this one among them (TensorPart).
struct Holders {
  int copies = 0, copy = 0;
};

/// Of elements of a trained parameter. `alone`: no other rank of the data group has them; `place`: that of this process
/// in its tensor group.
Holders holders_of(const ParameterStore::Entry& entry, bool alone, const TensorPlace& place);

/// The whole parameter as a tensor of a file, also where this process holds a part of it.
WeightSlot whole_slot(const ParameterStore::Entry& entry);

/// Adds what the file's tensor has of elements [begin, begin + values.numel()), row-major, of a parameter of `shape`.
void add_elements(std::vector<TensorPart>& parts, const WeightSlot& slot, const Shape& shape, int64_t begin,
                  const Tensor& values, const Holders& holders);

}  // namespace ondol
