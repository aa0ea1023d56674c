#include "backend/cpu/kernels/gemm_micro.h"

#include <utility>

namespace ondol::cpu::ONDOL_ISA {

namespace {

struct KernelsByRows {
  MicroKernel of[kTileRows];
};
struct KernelsByVectors {
  KernelsByRows of[kTileVectors];
};

template <bool kPacked, int kVectors, int... kRow>
constexpr KernelsByRows list_rows(std::integer_sequence<int, kRow...>) {
  return {{micro_kernel<kRow + 1, kPacked, kVectors>...}};
}
template <bool kPacked, int... kVector>
constexpr KernelsByVectors list_vectors(std::integer_sequence<int, kVector...>) {
  return {{list_rows<kPacked, kVector + 1>(std::make_integer_sequence<int, kTileRows>{})...}};
}

constexpr KernelsByVectors kPackedKernels = list_vectors<true>(std::make_integer_sequence<int, kTileVectors>{});
constexpr KernelsByVectors kStridedKernels = list_vectors<false>(std::make_integer_sequence<int, kTileVectors>{});

}  // namespace

MicroKernel micro_kernel_for(int64_t rows, bool packed, int64_t vectors) {
  return (packed ? kPackedKernels : kStridedKernels).of[vectors - 1].of[rows - 1];
}

}  // namespace ondol::cpu::ONDOL_ISA
