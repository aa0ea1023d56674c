// Range checks of index tensors that lie on the host. On a device they would stall it: there the caller answers for
// them.
#pragma once

#include <ondol/tensor/tensor.h>

namespace ondol::ops {

/// Every element of `index` (i32, contiguous) is in [0, limit), or is `exempt`. The error names the first that is not,
/// and its place.
void check_range_on_host(const char* op, const char* name, const Tensor& index, int64_t limit);
void check_range_on_host(const char* op, const char* name, const Tensor& index, int64_t limit, int32_t exempt);

}  // namespace ondol::ops
