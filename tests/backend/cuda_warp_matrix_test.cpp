// The emulated tensor-core product, matrix loads and asynchronous copies against the layouts that the PTX ISA documents.
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/dtype.h>
#include <ondol/base/error.h>

#include "support/cuda_emulation/emulator.h"
#include "support/cuda_emulation/warp_matrix.h"

namespace ondol {

namespace cuda_emulated {
extern unsigned char ondol_shared_memory[];
}

namespace {

using emulation::current;

const emulation::LaunchShape kTwoWarps{{1, 1, 1}, {64, 1, 1}, 4096};

uint32_t pair_of(float low, float high) {
  return bfloat16(low).bits | static_cast<uint32_t>(bfloat16(high).bits) << 16;
}

/// PTX ISA, mma.m16n8k16 for .bf16: element i of a thread's a, b and c, by group (lane / 4) and thread in group.
struct Place {
  int row, column;
};
Place place_of_a(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper ? group : group + 8, thread * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
Place place_of_b(int lane, int i) { return {lane % 4 * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane >> 2}; }
Place place_of_c(int lane, int i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }

/// Small integers: every sum is exact, so that the order does not matter.
TEST(CudaWarpMatrix, ProductHasTheDocumentedFragments) {
  std::mt19937 random(3);
  float a[16][16], b[16][8], c[16][8], expected[16][8];
  for (auto& row : a)
    for (float& x : row) x = static_cast<float>(static_cast<int>(random() % 17) - 8);
  for (auto& row : b)
    for (float& x : row) x = static_cast<float>(static_cast<int>(random() % 17) - 8);
  for (auto& row : c)
    for (float& x : row) x = static_cast<float>(random() % 100);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      expected[i][j] = c[i][j];
      for (int k = 0; k < 16; ++k) expected[i][j] += a[i][k] * b[k][j];
    }
  }
  for (uint64_t seed = 0; seed < 5; ++seed) {
    emulation::set_seed(seed);
    float result[2][16][8];
    emulation::run_kernel(kTwoWarps, [&] {
      const int lane = static_cast<int>(current.thread.x % 32);
      float element_a[8], element_b[4], element_c[4];
      for (int i = 0; i < 8; ++i) element_a[i] = a[place_of_a(lane, i).row][place_of_a(lane, i).column];
      for (int i = 0; i < 4; ++i) element_b[i] = b[place_of_b(lane, i).row][place_of_b(lane, i).column];
      for (int i = 0; i < 4; ++i) element_c[i] = c[place_of_c(lane, i).row][place_of_c(lane, i).column];
      uint32_t fragment[4];
      for (int i = 0; i < 4; ++i) fragment[i] = pair_of(element_a[2 * i], element_a[2 * i + 1]);
      const uint32_t b0 = pair_of(element_b[0], element_b[1]), b1 = pair_of(element_b[2], element_b[3]);
      emulation::mma_m16n8k16(element_c, fragment, b0, b1);
      for (int i = 0; i < 4; ++i) {
        result[current.thread.x / 32][place_of_c(lane, i).row][place_of_c(lane, i).column] = element_c[i];
      }
    });
    for (auto& warp : result) EXPECT_EQ(std::memcmp(warp, expected, sizeof(expected)), 0) << seed;
  }
}

/// PTX ISA, ldmatrix: threads 8m .. 8m + 7 address the rows of matrix m; thread l receives the elements 2 (l % 4) and
/// 2 (l % 4) + 1 of row l / 4, with .trans those of the transposed matrix.
TEST(CudaWarpMatrix, MatrixLoadsHaveTheDocumentedFragments) {
  for (const bool transposed : {false, true}) {
    int wrong = 0;
    emulation::run_kernel(kTwoWarps, [&] {
      auto* shared = reinterpret_cast<uint16_t*>(cuda_emulated::ondol_shared_memory);
      const int t = static_cast<int>(current.thread.x), lane = t % 32;
      for (int i = t; i < 4 * 64; i += 64) shared[i] = static_cast<uint16_t>(i);  // matrix m, row r, column c: 64m+8r+c
      emulation::block_barrier();
      uint32_t out[4];
      emulation::load_matrices(out, shared + 8 * lane, transposed);
      for (int m = 0; m < 4; ++m) {
        for (int e = 0; e < 2; ++e) {
          const int row = lane / 4, column = 2 * (lane % 4) + e;
          const int want = 64 * m + (transposed ? 8 * column + row : 8 * row + column);
          wrong += static_cast<int>(out[m] >> (16 * e) & 0xffff) != want;
        }
      }
    });
    EXPECT_EQ(wrong, 0) << transposed;
  }
}

TEST(CudaWarpMatrix, LanesMustMeetAtOneOperation) {
  EXPECT_THROW(emulation::run_kernel(kTwoWarps,
                                     [] {
                                       float c[4] = {};
                                       uint32_t out[4];
                                       if (current.thread.x % 32 == 7) {
                                         emulation::load_matrices(out, cuda_emulated::ondol_shared_memory, false);
                                       } else {
                                         emulation::mma_m16n8k16(c, {0, 0, 0, 0}, 0, 0);
                                       }
                                     }),
               Error);
  EXPECT_THROW(emulation::run_kernel(kTwoWarps,
                                     [] {
                                       uint32_t out[4];
                                       emulation::load_matrices(out, cuda_emulated::ondol_shared_memory + 2, false);
                                     }),
               Error);
}

/// What a thread finds at the target of a copy: after the group was waited for, the source; before, NaN.
TEST(CudaWarpMatrix, CopiesArriveWhenTheirGroupWasWaitedFor) {
  auto* global = static_cast<float*>(emulation::allocate(64 * 4 * sizeof(float)));
  for (int i = 0; i < 256; ++i) global[i] = static_cast<float>(i + 1);
  int wrong = 0;
  emulation::run_kernel(kTwoWarps, [&] {
    auto* shared = reinterpret_cast<float*>(cuda_emulated::ondol_shared_memory);
    const unsigned t = current.thread.x;
    float *first = shared + 4 * t, *second = shared + 256 + 4 * t, *third = shared + 512 + 4 * t;
    for (int i = 0; i < 4; ++i) first[i] = -1.0f;
    emulation::copy_async(first, global + 4 * t, 16, true);
    emulation::commit_copies();
    emulation::copy_async(second, nullptr, 16, false);
    emulation::copy_async(third, global + t, 4, true);
    emulation::commit_copies();
    wrong += !std::isnan(first[0]) || !std::isnan(second[3]) || !std::isnan(third[0]);
    emulation::wait_copies(1);
    for (unsigned i = 0; i < 4; ++i) wrong += first[i] != static_cast<float>(4 * t + i + 1);
    wrong += !std::isnan(second[0]) || !std::isnan(third[0]);
    emulation::wait_copies(0);
    for (int i = 0; i < 4; ++i) wrong += second[i] != 0.0f;
    wrong += third[0] != static_cast<float>(t + 1);
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_THROW(emulation::run_kernel(
                   kTwoWarps, [&] { emulation::copy_async(cuda_emulated::ondol_shared_memory + 4, global, 16, true); }),
               Error);
  EXPECT_THROW(emulation::run_kernel(
                   kTwoWarps, [&] { emulation::copy_async(cuda_emulated::ondol_shared_memory, global + 1, 16, true); }),
               Error);
  EXPECT_THROW(emulation::run_kernel(kTwoWarps, [&] { emulation::copy_async(global, global, 16, true); }), Error);
  emulation::release(global);
}

/// A wait without the barrier behind it, or the barrier without the wait, leaves NaN for the other threads.
TEST(CudaWarpMatrix, MissingWaitOrBarrierShows) {
  auto* global = static_cast<float*>(emulation::allocate(64 * sizeof(float)));
  for (int i = 0; i < 64; ++i) global[i] = static_cast<float>(i);
  const auto wrong = [&](bool wait, bool barrier, uint64_t seed) {
    int count = 0;
    emulation::set_seed(seed);
    emulation::run_kernel(kTwoWarps, [&] {
      auto* shared = reinterpret_cast<float*>(cuda_emulated::ondol_shared_memory);
      const unsigned t = current.thread.x;
      emulation::copy_async(shared + t, global + t, 4, true);
      emulation::commit_copies();
      if (wait) emulation::wait_copies(0);
      if (barrier) emulation::block_barrier();
      count += shared[63 - t] != static_cast<float>(63 - t);
    });
    return count;
  };
  for (uint64_t seed = 0; seed < 10; ++seed) {
    EXPECT_EQ(wrong(true, true, seed), 0);
    EXPECT_EQ(wrong(false, true, seed), 64);
    EXPECT_GT(wrong(true, false, seed), 0);
  }
  emulation::release(global);
}

}  // namespace
}  // namespace ondol
