#include "backend/cpu/kernels/gemm_micro.h"

#include <utility>

namespace ondol::cpu::ONDOL_ISA {

namespace {

struct MicroKernelList {
  MicroKernel by_rows[kTileRows];
};

template <bool kPacked, int... kRow>
constexpr MicroKernelList list_kernels(std::integer_sequence<int, kRow...>) {
  return {{micro_kernel<kRow + 1, kPacked>...}};
}

constexpr MicroKernelList kPackedKernels = list_kernels<true>(std::make_integer_sequence<int, kTileRows>{});
constexpr MicroKernelList kStridedKernels = list_kernels<false>(std::make_integer_sequence<int, kTileRows>{});

}  // namespace

MicroKernel micro_kernel_for(int64_t rows, bool packed) {
  return (packed ? kPackedKernels : kStridedKernels).by_rows[rows - 1];
}

}  // namespace ondol::cpu::ONDOL_ISA
