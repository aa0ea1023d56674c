// The implementations of communicators. A build without MPI or NCCL has stand-ins for theirs, which throw.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ondol/distributed/communicator.h>

#include "distributed/comm_queue.h"

namespace ondol {

/// What a communicator is made of, collectively: this rank, the ranks of the job that take part, where they meet, and
/// on the CPU the thread that does the work.
struct CommMembers {
  int rank = 0;
  std::vector<int> world_ranks;
  std::shared_ptr<Rendezvous> rendezvous;
  CommunicatorOptions options;
  std::shared_ptr<CommQueue> queue;
  std::string host_address = {};  // of rank 0 of the job: others connect to this host by the way that leads there
};

/// A job of one process.
std::unique_ptr<Communicator> make_single_communicator(const CommMembers& members);

/// Ranks on one host (Linux), without any library.
std::unique_ptr<Communicator> make_shm_communicator(const CommMembers& members);

/// The same on processes that can share memory: of one machine, one user, and one view of processes and networks.
std::string shm_host();

/// Ranks on any hosts that reach each other by TCP.
std::unique_ptr<Communicator> make_tcp_communicator(const CommMembers& members);

/// Processes that mpirun, srun or the like has started.
std::unique_ptr<Communicator> make_mpi_communicator(const CommMembers& members);
bool mpi_available();
/// The build has MPI, and this process is one of several that an MPI launcher has started.
bool started_by_mpi();

/// One GPU for each rank.
std::unique_ptr<Communicator> make_nccl_communicator(const CommMembers& members);
bool nccl_available();

}  // namespace ondol
