// Where the tensors of a safetensors file lie, before any of their values is written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ondol/io/safetensors.h>

namespace ondol {

struct TensorOutline {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;  // in the file

  uint64_t bytes() const { return static_cast<uint64_t>(shape.numel()) * dtype_size(dtype); }
};

/// With the types that the options ask for.
std::vector<TensorOutline> outlines_of(const std::vector<TensorOutput>& tensors,
                                       const SafetensorsWriteOptions& options);

struct SafetensorsLayout {
  std::string head;               // what stands before the data: length and header
  std::vector<size_t> order;      // tensors (their index) as they lie in the file
  std::vector<uint64_t> offsets;  // in the file, by tensor as given
  uint64_t bytes = 0;             // of the file
};

/// Throws Error naming the file on repeated or reserved names.
SafetensorsLayout lay_out_safetensors(const std::vector<TensorOutline>& tensors, const SafetensorsMetadata& metadata,
                                      const std::string& path);

}  // namespace ondol
