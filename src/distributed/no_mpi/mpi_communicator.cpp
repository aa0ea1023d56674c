// Stands in for the MPI communicator in builds without it.
#include "distributed/transports.h"

namespace ondol {

bool mpi_available() { return false; }
bool started_by_mpi() { return false; }

std::unique_ptr<Communicator> make_mpi_communicator(const CommMembers&) {
  throw UsageError("this build has no MPI", "configure with -DONDOL_MPI=ON");
}

}  // namespace ondol
