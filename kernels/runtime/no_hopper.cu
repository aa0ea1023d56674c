// Stands in for the kernels of compute capability 9.0a in builds without that architecture.
#include "attention_rows.h"

namespace ondol::ONDOL_CUDA_SPACE {

bool attention_hopper(const AttentionArgs&, Stream) { return false; }

}  // namespace ondol::ONDOL_CUDA_SPACE
