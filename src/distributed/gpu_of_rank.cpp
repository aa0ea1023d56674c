#include "distributed/gpu_of_rank.h"

#include <ondol/base/error.h>

namespace ondol {

int gpu_of_rank(const RankInfo& info, int gpus, int named) {
  if (named >= 0) {
    if (info.local_size == 1) return named;
    throw UsageError(concat("the run has ", info.local_size,
                            " processes on this host, which cannot share one GPU "
                            "(--device cuda:",
                            named, ")"),
                     "with --device cuda each process takes a GPU of its own");
  }
  if (info.local_size > gpus) {
    throw UsageError(concat("the run has ", info.local_size, " processes on this host, but rank ", info.rank, " sees ",
                            gpus, gpus == 1 ? " GPU" : " GPUs", " there"),
                     "start one process for each GPU and let all see them (CUDA_VISIBLE_DEVICES), or use --device cpu");
  }
  return info.local_rank;
}

}  // namespace ondol
