// Memory of a part of a long buffer, given back to the system while the part is not in use. The addresses stay.
//
//   give_back(flat.narrow(0, begin, length));     // its elements are undefined now ...
//   ... collective or kernel that writes them ...  // ... and have memory again
#pragma once

#include <ondol/tensor/tensor.h>

namespace ondol {

/// `part` is contiguous. Whole pages inside it go back, and read as zeros until they are written; what shares a page
/// with elements outside keeps its values. Does nothing where memory cannot go back in parts (GPUs).
void give_back(const Tensor& part);

/// Contiguous zeros that have no memory before they are written to, where memory can be given back.
Tensor zeros_without_memory(const Shape& shape, DType dtype, Device device);

/// Bytes of `part` that have memory now, counted in whole pages; all of them where that cannot be told.
size_t resident_bytes(const Tensor& part);

}  // namespace ondol
