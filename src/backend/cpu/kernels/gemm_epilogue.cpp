#include "backend/cpu/kernels/gemm_epilogue_inline.h"

namespace ondol::cpu::ONDOL_ISA {

template void finish_block<float>(const GemmArgs&, int64_t, int64_t, int64_t, int64_t, int64_t, const float*, int64_t);
template void finish_block<bfloat16>(const GemmArgs&, int64_t, int64_t, int64_t, int64_t, int64_t, const float*,
                                     int64_t);

}  // namespace ondol::cpu::ONDOL_ISA
