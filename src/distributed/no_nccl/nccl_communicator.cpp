// Stands in for the NCCL communicator in builds without it.
#include "distributed/transports.h"

namespace ondol {

bool nccl_available() { return false; }

std::unique_ptr<Communicator> make_nccl_communicator(const CommMembers&) {
  throw UsageError("this build has no NCCL", "configure with -DONDOL_CUDA=ON -DONDOL_NCCL=ON");
}

}  // namespace ondol
