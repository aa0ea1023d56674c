// The matrix product with few rows of a (decoding): b is streamed once, never packed, at the rate of memory.
#pragma once

#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

inline constexpr int64_t kFewRows = 8;

/// One matrix of the batch with m <= kFewRows. `depth` is the length of the chains of k (gemm.cpp), which are added as
/// in the general product: the results have the same bytes.
template <class T>
void multiply_few_rows(const GemmArgs& args, int64_t index, int64_t depth, int64_t workers);

/// The same on the calling thread for args.a of f32, row-major, and b of type T; k is one block.
template <class T>
void multiply_float_rows(const GemmArgs& args);

}  // namespace ondol::cpu::ONDOL_ISA
