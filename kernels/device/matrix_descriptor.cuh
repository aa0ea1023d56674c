// Tiles of bf16 in shared memory as wgmma and the copy engine see them, and the descriptors that name them (PTX ISA,
// "Matrix Descriptor Format" and "Shared Memory Matrix Layout" of wgmma).
//
// A tile of kDim columns lies in kDim / 64 panels of 64 columns. A row of a panel has 128 bytes; its 16-byte unit u
// lies at place u ^ (row % 8), the 128-byte swizzle, which the hardware takes from the address: panels begin at
// multiples of 1024 bytes. So does a box of a BoxedTensor arrive. Eight rows of a panel are one repetition of the
// pattern.
#pragma once

#include <device/wgmma.cuh>

#include "device/convert.cuh"

namespace ondol::ONDOL_CUDA_SPACE {

inline constexpr int kPanelColumns = 64, kPanelRowBytes = 128, kPatternBytes = 1024;

/// Bits 0-13, 16-29 and 32-45 are the address and two distances in units of 16 bytes, bits 62-63 the swizzle (1: 128
/// bytes).
__device__ inline uint64_t matrix_descriptor(uint32_t address, uint32_t leading_bytes, uint32_t stride_bytes) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | uint64_t{1} << 62;
}

/// A tile of kRows rows.
template <int kRows, int kDim>
struct PanelTile {
  static_assert(kRows % 8 == 0 && kDim % kPanelColumns == 0);
  static constexpr int kPanels = kDim / kPanelColumns;
  static constexpr int kPanelBytes = kRows * kPanelRowBytes;
  static constexpr int kBytes = kPanels * kPanelBytes;

  unsigned char* data;

  __device__ unsigned char* panel(int p) const { return data + p * kPanelBytes; }
  /// Zeros in the rows from `row` on, by `threads` threads; for ordinary accesses.
  __device__ void clear_rows(int row, int thread, int threads) const {
    constexpr int kUnits = kPanelRowBytes / 16;
    for (int n = row * kUnits + thread; n < kRows * kUnits; n += threads) {
      for (int p = 0; p < kPanels; ++p) *reinterpret_cast<uint4*>(panel(p) + n * 16) = uint4{0, 0, 0, 0};
    }
  }

  /// The rows from `row` on (a multiple of 8) as an operand whose depth are the columns.
  __device__ uint64_t by_columns(int row = 0) const {
    return matrix_descriptor(shared_address(data) + row * kPanelRowBytes, 16, kPatternBytes);  // leading: not used
  }
  /// Columns 16k ... 16k + 15 of by_columns.
  __device__ static uint64_t column_step(uint64_t descriptor, int k) {
    constexpr int kSteps = kPanelColumns / 16;
    return descriptor + static_cast<uint64_t>((k / kSteps * kPanelBytes + k % kSteps * 32) >> 4);
  }

  /// As a right operand whose depth are the rows: N-major, a panel after the other.
  __device__ uint64_t by_rows() const { return matrix_descriptor(shared_address(data), kPanelBytes, kPatternBytes); }
  /// Rows 16k ... 16k + 15 of by_rows.
  __device__ static uint64_t row_step(uint64_t descriptor, int k) {
    return descriptor + static_cast<uint64_t>(k * 16 * kPanelRowBytes >> 4);
  }
};

}  // namespace ondol::ONDOL_CUDA_SPACE
