// Every collective, type, size and form of call on a communicator, against sums that the test computes by itself.
#pragma once

#include <ondol/distributed/communicator.h>

namespace ondol::testing {

/// Collective. Throws Error naming the first case that is wrong; returns the number of cases. `large` is the element
/// count of the longest tensors; with `every_type` not f32 alone.
int run_collective_cases(Communicator& world, int64_t large, bool every_type = true);

}  // namespace ondol::testing
