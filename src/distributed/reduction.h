// The reduction of several arrays of one length in one pass, in the balanced binary tree over their index.
//
//   reduce_tree(out, {a, b, c}, count, DType::f32, ReduceOp::sum);      // out[i] = (a[i] + b[i]) + c[i]
//
// What is missing on the right of the tree is left out: of n arrays the first 2^k (the largest power below n) are the
// left half. Results below the smallest normal number become 0.
#pragma once

#include <cstdint>
#include <span>

#include <ondol/base/dtype.h>
#include <ondol/distributed/communicator.h>

namespace ondol {

/// Whether there is a reduction of this type.
bool can_reduce(DType dtype, ReduceOp op);

/// `out` may be one of the sources. No source: zeros.
void reduce_tree(void* out, std::span<const void* const> sources, int64_t count, DType dtype, ReduceOp op);

}  // namespace ondol
