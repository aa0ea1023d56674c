// The packing and tiling of the matrix-tile product, with the tiles of the processor's definition in software.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

// The templates of the kernels, instantiated in a namespace of their own.
#define ONDOL_ISA tiles_in_software
#if defined(__x86_64__)
#define ONDOL_ISA_avx2 1
#endif
#include "backend/cpu/amx/gemm_tiles.h"
#include "backend/cpu/kernels/gemm_epilogue_inline.h"

namespace ondol::cpu::tiles_in_software {
namespace {

/// Tiles as the instruction set reference defines them: TDPBF16PS sums the even and the odd elements of k apart, each
/// by fused multiply-adds from zero, and adds both to the accumulator.
struct SoftwareTiles {
  static inline thread_local uint8_t tile[8][16][64];
  static inline thread_local bool configured = false;

  static void configure() {
    EXPECT_FALSE(configured);
    configured = true;
  }
  static void release() {
    EXPECT_TRUE(configured);
    configured = false;
  }
  template <int kTile>
  static void zero() {
    std::memset(tile[kTile], 0, sizeof(tile[kTile]));
  }
  template <int kTile>
  static void load(const void* from, int64_t stride) {
    for (int i = 0; i < 16; ++i) std::memcpy(tile[kTile][i], static_cast<const uint8_t*>(from) + i * stride, 64);
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    for (int i = 0; i < 16; ++i) std::memcpy(static_cast<uint8_t*>(to) + i * stride, tile[kTile][i], 64);
  }
  static float bf16_at(const uint8_t* row, int i) {
    bfloat16 value;
    std::memcpy(&value, row + 2 * i, 2);
    return static_cast<float>(value);
  }
  template <int kC, int kA, int kB>
  static void dot() {
    ASSERT_TRUE(configured);
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 16; ++n) {
        float even = 0, odd = 0, sum;
        for (int k = 0; k < 16; ++k) {
          even = std::fma(bf16_at(tile[kA][m], 2 * k), bf16_at(tile[kB][k], 2 * n), even);
          odd = std::fma(bf16_at(tile[kA][m], 2 * k + 1), bf16_at(tile[kB][k], 2 * n + 1), odd);
        }
        std::memcpy(&sum, tile[kC][m] + 4 * n, 4);
        sum += even + odd;
        std::memcpy(tile[kC][m] + 4 * n, &sum, 4);
      }
    }
  }
};

struct TileCase {
  int64_t m, n, k;
  bool trans_a, trans_b;
  DType c_dtype;
  float beta;
  bool bias;
};

void run_case(const TileCase& c) {
  std::mt19937 random(static_cast<unsigned>(c.m * 31 + c.n * 7 + c.k));
  std::normal_distribution<float> normal;
  const auto draw = [&](int64_t count) {
    std::vector<bfloat16> values(count);
    for (bfloat16& value : values) value = bfloat16(normal(random));
    return values;
  };
  const int64_t lda = (c.trans_a ? c.m : c.k) + 2, ldb = (c.trans_b ? c.k : c.n) + 4, ldc = c.n + 1;
  const std::vector<bfloat16> a = draw((c.trans_a ? c.k : c.m) * lda + 1), b = draw((c.trans_b ? c.n : c.k) * ldb + 1);
  const std::vector<bfloat16> bias = draw(c.n);
  GemmArgs args{};
  args.a = a.data(), args.b = b.data();
  args.c_dtype = c.c_dtype;
  args.trans_a = c.trans_a, args.trans_b = c.trans_b;
  args.m = c.m, args.n = c.n, args.k = c.k;
  args.lda = lda, args.ldb = ldb, args.ldc = ldc;
  args.batch = 1;
  args.alpha = 1.0f, args.beta = c.beta;
  if (c.bias) args.bias = bias.data();
  std::vector<uint8_t> first;
  for (int threads : {1, 3}) {
    const int saved = num_threads();
    set_num_threads(threads);
    std::vector<uint8_t> out((c.m * ldc + 1) * 4, 0);
    if (c.beta != 0.0f) {
      for (int64_t i = 0; i < c.m * ldc; ++i) reinterpret_cast<float*>(out.data())[i] = static_cast<float>(i % 5);
    }
    args.c = out.data();
    TileProduct<SoftwareTiles>(args, 0, threads).run();
    set_num_threads(saved);
    if (threads > 1) {
      ASSERT_EQ(first, out) << "bytes change with the number of threads";
      continue;
    }
    first = out;
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        double sum = c.bias ? static_cast<float>(bias[j]) : 0.0, magnitude = 1;
        for (int64_t l = 0; l < c.k; ++l) {
          const double product = static_cast<double>(static_cast<float>(a[c.trans_a ? l * lda + i : i * lda + l])) *
                                 static_cast<float>(b[c.trans_b ? j * ldb + l : l * ldb + j]);
          sum += product;
          magnitude += std::fabs(product);
        }
        const int64_t at = i * ldc + j;
        sum += c.beta * static_cast<double>(at % 5);
        const double actual = c.c_dtype == DType::f32
                                  ? reinterpret_cast<const float*>(out.data())[at]
                                  : static_cast<float>(reinterpret_cast<const bfloat16*>(out.data())[at]);
        const double rounding = c.c_dtype == DType::bf16 ? std::fabs(sum) / 256 : 0;
        ASSERT_NEAR(actual, sum, 2e-6 * magnitude + rounding)
            << "m=" << c.m << " n=" << c.n << " k=" << c.k << (c.trans_a ? " A^T" : "") << (c.trans_b ? " B^T" : "")
            << " at " << i << "," << j;
      }
    }
  }
}

TEST(GemmTiles, OddShapesInEveryOrientation) {
  int count = 0;
  for (int64_t m : {1, 16, 33, 70}) {
    for (int64_t n : {1, 17, 32, 95}) {
      for (int64_t k : {0, 1, 31, 32, 64, 77}) {
        for (int orientation = 0; orientation < 4; ++orientation, ++count) {
          const DType c_dtype = count % 3 == 0 ? DType::bf16 : DType::f32;
          run_case({m, n, k, (orientation & 1) != 0, (orientation & 2) != 0, c_dtype,
                    c_dtype == DType::f32 && count % 5 == 0 ? 1.0f : 0.0f, count % 2 == 0});
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(GemmTiles, BeyondOneChunkInEveryDimension) {
  run_case({40, 35, 4200, false, true, DType::bf16, 0.0f, true});
  run_case({3, 4130, 40, false, false, DType::f32, 0.0f, false});
  run_case({4130, 3, 40, true, true, DType::f32, 1.0f, false});
}

/// Tiles that lose one product.
struct FaultyTiles : SoftwareTiles {
  template <int kC, int kA, int kB>
  static void dot() {
    SoftwareTiles::dot<kC, kA, kB>();
    if (kC == 3) SoftwareTiles::tile[3][5][9] ^= 0x40;
  }
};

TEST(GemmTiles, CheckBeforeUseFindsFaultyTiles) {
  EXPECT_TRUE(tiles_multiply<SoftwareTiles>());
  EXPECT_FALSE(tiles_multiply<FaultyTiles>());
}

}  // namespace
}  // namespace ondol::cpu::tiles_in_software
