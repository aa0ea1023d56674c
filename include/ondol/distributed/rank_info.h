// Which process of a job this is.
//
//   const RankInfo info = find_rank_info();       // from the environment; one process: {.rank = 0, .size = 1}
//   RankInfo by_hand{.rank = 1, .size = 4, .local_rank = 1, .local_size = 4, .master_address = "10.0.0.1",
//                    .master_port = 29400, .job_secret = "…"};
//
// Looked for in this order: the variables of `ondol launch` (ONDOL_RANK, ONDOL_SIZE, ONDOL_LOCAL_RANK,
// ONDOL_LOCAL_SIZE, ONDOL_MASTER_ADDRESS, ONDOL_MASTER_PORT, ONDOL_JOB_SECRET), those of torchrun (RANK, WORLD_SIZE,
// LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT), Open MPI (OMPI_COMM_WORLD_RANK, ...), SLURM (SLURM_PROCID of
// a job step,
// ...). MASTER_ADDR and MASTER_PORT may be given to the last two as well. Jobs on several hosts need ONDOL_JOB_SECRET.
// Sets of variables that contradict each other, are not whole or hold nonsense throw UsageError.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ondol {

struct RankInfo {
  int rank = 0;        // 0 .. size-1
  int size = 1;        // processes of the job, one for each rank
  int local_rank = 0;  // among the processes of this host
  int local_size = 1;
  std::string master_address = "127.0.0.1";  // where rank 0 (or the launcher) can be met
  int master_port = 0;
  std::string job_secret;          // the same on all ranks of a job and known to nobody else
  bool store_in_launcher = false;  // the launcher holds the store, not rank 0
  std::string started_by;          // "ondol launch", "torchrun", "Open MPI", "SLURM"; "": none of them
};

/// The value of a variable, nothing when it is not set.
using EnvironmentLookup = std::function<std::optional<std::string>(const std::string& name)>;

/// Throws UsageError.
RankInfo find_rank_info();
RankInfo find_rank_info(const EnvironmentLookup& lookup);

/// The variables by which `ondol launch` tells a process what find_rank_info then finds ("NAME=VALUE").
std::vector<std::string> launch_variables(const RankInfo& info);

}  // namespace ondol
