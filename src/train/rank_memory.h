// What a process of a run keeps from step to step, calculated: for a dry run of one process that stands for many.
#pragma once

#include <ondol/train/config.h>
#include <ondol/train/trainer.h>

namespace ondol {

/// Of the rank of `ranks` that keeps the most, in the first stage of the run.
RankMemory rank_memory(const TrainConfig& config, const ParameterStore& store, const Optimizer& optimizer, int ranks);

/// Where parallel.tensor processes hold a model together: of one of them, in proportion to its part of the weights.
void shrink_to_part(RankMemory& memory, const TrainConfig& config);

}  // namespace ondol
