// One GPU for each process of a host.
#pragma once

#include <ondol/distributed/rank_info.h>

namespace ondol {

/// The index of the GPU that this rank works on: that of its place on the host. `gpus` are those that the process sees,
/// `named` is the index of one that was asked for by name, -1 for none. Throws UsageError when two processes of the
/// host would share one.
int gpu_of_rank(const RankInfo& info, int gpus, int named);

}  // namespace ondol
