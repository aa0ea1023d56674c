// Which process of a job this is.
//
//   RankInfo info{.rank = 1, .size = 4, .local_rank = 1, .local_size = 4, .master_address = "10.0.0.1", .master_port =
//   29400};
#pragma once

#include <string>

namespace ondol {

struct RankInfo {
  int rank = 0;        // 0 .. size-1
  int size = 1;        // processes of the job, one for each rank
  int local_rank = 0;  // among the processes of this host
  int local_size = 1;
  std::string master_address = "127.0.0.1";  // where rank 0 (or the launcher) can be met
  int master_port = 0;
  std::string job_secret;  // the same on all ranks of a job and known to nobody else
};

}  // namespace ondol
