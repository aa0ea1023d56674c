// The register-tiled inner kernel of the matrix product: kTileRows x kTileCols sums held in vector registers.
//
// A step of k multiplies kTileCols contiguous floats of b (two or three vectors) by one broadcast float for each row of
// a. Every sum is made of chains of fused multiply-adds in the order of k, added in that order, so its value depends
// neither on the tile it falls into nor on the vector width. Rounding errors of a chain grow with its length.
#pragma once

#include <cstdint>

#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {

// As many accumulators as leave registers for the vectors of b and one of a: 28 of 32, 12 of 16.
#if defined(ONDOL_ISA_avx512) || defined(ONDOL_ISA_amx)
inline constexpr int kTileRows = 14;
inline constexpr int kTileVectors = 2;
#elif defined(ONDOL_ISA_avx2)
inline constexpr int kTileRows = 6;
inline constexpr int kTileVectors = 2;
#else
inline constexpr int kTileRows = 8;
inline constexpr int kTileVectors = 3;
#endif
inline constexpr int kTileCols = kTileVectors * kLanes;

/// Rows of memory that are needed soon, fetched into the second-level cache a few lines at a time: all at once, they
/// would hold up the kernel's own loads.
struct Ahead {
  Ahead() = default;
  /// `count` rows of `width` elements, `stride` elements apart.
  template <class T>
  Ahead(const T* first, int64_t stride_elements, int64_t count, int64_t width_elements)
      : row(reinterpret_cast<const char*>(first)),
        stride(stride_elements * static_cast<int64_t>(sizeof(T))),
        rows(count),
        width(width_elements * static_cast<int64_t>(sizeof(T))) {}

  /// Spreads the lines over `tiles` kernel calls of k steps.
  void spread(int64_t tiles, int64_t k) {
    const int64_t times = tiles * (k / kSteps) + 1;
    lines = (rows * ((width + 63) / 64) + times - 1) / times;
  }
  void fetch() {
    for (int64_t i = 0; i < lines && rows > 0; ++i) {
      __builtin_prefetch(row + at, 0, 2);
      at += 64;
      if (at >= width) {
        at = 0;
        row += stride;
        --rows;
      }
    }
  }

  static constexpr int64_t kSteps = 16;  // of k between two calls of fetch
  const char* row = nullptr;
  int64_t stride = 0;
  int64_t rows = 0;
  int64_t width = 0;
  int64_t at = 0;
  int64_t lines = 0;
};

/// c (rows, vectors * kLanes) = a b, or += when accumulate. Element (i, l) of a is a[i * a_stride + l] when the rows
/// lie as in the caller's matrix, a[l * a_stride + i] in a packed panel; row l of b starts at b + l * b_stride. Chains
/// have `chain` steps, the last one what is left.
using MicroKernel = void (*)(int64_t k, int64_t chain, const float* a, int64_t a_stride, const float* b,
                             int64_t b_stride, float* c, int64_t c_stride, bool accumulate, Ahead* ahead);

template <int kRows, bool kPacked, int kVectors>
void micro_kernel(int64_t k, int64_t chain, const float* a, int64_t a_stride, const float* b, int64_t b_stride,
                  float* c, int64_t c_stride, bool accumulate, Ahead* ahead) {
  for (int i = 0; i < kRows; ++i) {
    __builtin_prefetch(c + i * c_stride, 1);
    __builtin_prefetch(c + i * c_stride + 16, 1);
  }
  const int64_t a_next = kPacked ? a_stride : 1;
  int64_t left = k;
  do {
    Floats sum[kRows][kVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = splat(0.0f);
    }
    const auto step = [&](const float* a_step, const float* b_step) __attribute__((always_inline)) {
      Floats b_vector[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) b_vector[j] = load(b_step + j * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Floats a_value = splat(a_step[kPacked ? i : i * a_stride]);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sum[i][j] = fma(a_value, b_vector[j], sum[i][j]);
      }
    };
    const int64_t steps = left < chain ? left : chain;
    int64_t l = 0;
    for (; l + 4 <= steps; l += 4) {
      if (ahead != nullptr && l % Ahead::kSteps == 0) ahead->fetch();
      step(a, b);
      step(a + a_next, b + b_stride);
      step(a + 2 * a_next, b + 2 * b_stride);
      step(a + 3 * a_next, b + 3 * b_stride);
      a += 4 * a_next;
      b += 4 * b_stride;
    }
    for (; l < steps; ++l) {
      step(a, b);
      a += a_next;
      b += b_stride;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        float* out = c + i * c_stride + j * kLanes;
        store(out, accumulate ? load(out) + sum[i][j] : sum[i][j]);
      }
    }
    accumulate = true;
    left -= steps;
  } while (left > 0);
}

/// The kernel for a tile of 1 to kTileRows rows and 1 to kTileVectors vectors of columns.
MicroKernel micro_kernel_for(int64_t rows, bool packed, int64_t vectors = kTileVectors);

}  // namespace ondol::cpu::ONDOL_ISA
