// The emulator itself: it must run correct kernels and catch wrong ones.
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

#include "support/cuda_emulation/emulated_cuda.h"

namespace ondol {

namespace cuda_emulated {
extern unsigned char ondol_shared_memory[];
}

namespace {

using emulation::current;

float* shared_floats() { return reinterpret_cast<float*>(cuda_emulated::ondol_shared_memory); }

/// Thread t writes t, then reads its neighbour's element.
std::vector<float> neighbours(bool with_barrier, uint64_t seed) {
  constexpr unsigned kThreads = 128;
  std::vector<float> out(kThreads);
  emulation::set_seed(seed);
  emulation::run_kernel({{1, 1, 1}, {kThreads, 1, 1}, kThreads * sizeof(float)}, [&] {
    const unsigned t = current.thread.x;
    shared_floats()[t] = static_cast<float>(t);
    if (with_barrier) emulation::block_barrier();
    out[t] = shared_floats()[(t + 1) % kThreads];
  });
  return out;
}

TEST(CudaEmulation, BarriersMakeSharedMemoryVisible) {
  std::vector<float> expected;
  for (int t = 0; t < 128; ++t) expected.push_back(static_cast<float>((t + 1) % 128));
  for (uint64_t seed = 0; seed < 20; ++seed) EXPECT_EQ(neighbours(true, seed), expected);
}

TEST(CudaEmulation, MissingBarrierShows) {
  for (uint64_t seed = 0; seed < 20; ++seed) EXPECT_NE(neighbours(false, seed), neighbours(true, seed)) << seed;
}

/// Each warp in turn publishes a number twice through the same place; without the barrier in between, a fast warp
/// overwrites what a slow one has yet to read.
bool second_round_spoils_the_first(bool with_barrier, uint64_t seed) {
  bool spoiled = false;
  emulation::set_seed(seed);
  emulation::run_kernel({{1, 1, 1}, {128, 1, 1}, 4 * sizeof(float)}, [&] {
    const unsigned t = current.thread.x, warp = t / 32;
    for (int round = 0; round < 2; ++round) {
      const float value = static_cast<float>(10 * round);
      for (int i = 0; i < 5; ++i) emulation::vote(~0u, true);
      if (round > 0 && with_barrier) emulation::block_barrier();
      if (t % 32 == 0) shared_floats()[warp] = value;
      emulation::block_barrier();
      spoiled |= shared_floats()[t % 4] != value;
    }
  });
  return spoiled;
}

TEST(CudaEmulation, MissingBarrierBeforeReuseShows) {
  int shown = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    EXPECT_FALSE(second_round_spoils_the_first(true, seed));
    shown += second_round_spoils_the_first(false, seed);
  }
  EXPECT_GE(shown, 5);
}

TEST(CudaEmulation, OrderOfThreadsAndBlocksDependsOnTheSeed) {
  std::set<std::vector<unsigned>> orders;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::vector<unsigned> order;
    emulation::set_seed(seed);
    emulation::run_kernel({{3, 2, 1}, {32, 2, 1}, 0}, [&] {
      order.push_back(((current.block.y * 3 + current.block.x) * 2 + current.thread.y) * 32 + current.thread.x);
    });
    EXPECT_EQ(std::set<unsigned>(order.begin(), order.end()).size(), 6u * 64u);
    orders.insert(order);
  }
  EXPECT_EQ(orders.size(), 10u);
}

TEST(CudaEmulation, ShufflesAndVotes) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    emulation::set_seed(seed);
    std::vector<uint64_t> sums(64);
    std::vector<unsigned> votes(64);
    emulation::run_kernel({{1, 1, 1}, {64, 1, 1}, 0}, [&] {
      const unsigned t = current.thread.x, lane = t % 32;
      uint64_t sum = t;
      for (int offset = 16; offset > 0; offset /= 2)
        sum += emulation::exchange(~0u, sum, static_cast<int>(lane) ^ offset);
      sums[t] = sum;
      // The two halves of a warp vote apart.
      votes[t] = lane < 16 ? emulation::vote(0x0000ffffu, lane % 2 == 0) : emulation::vote(0xffff0000u, lane == 31);
    });
    for (unsigned t = 0; t < 64; ++t) {
      EXPECT_EQ(sums[t], t < 32 ? 496u : 1520u);
      EXPECT_EQ(votes[t], t % 32 < 16 ? 0x5555u : 0x80000000u);
    }
  }
}

TEST(CudaEmulation, DivergingBarriersAreErrors) {
  const emulation::LaunchShape shape{{1, 1, 1}, {64, 1, 1}, 0};
  EXPECT_THROW(emulation::run_kernel(shape,
                                     [] {
                                       if (current.thread.x != 5) emulation::block_barrier();
                                     }),
               Error);
  EXPECT_THROW(emulation::run_kernel(shape,
                                     [] {
                                       if (current.thread.x != 5) emulation::vote(~0u, true);
                                     }),
               Error);
  EXPECT_THROW(emulation::run_kernel(shape,
                                     [] {
                                       if (current.thread.x < 32)
                                         emulation::block_barrier();
                                       else
                                         emulation::vote(~0u, true);
                                       if (current.thread.x == 40) emulation::vote(~0u, true);
                                     }),
               Error);
  EXPECT_THROW(emulation::run_kernel(shape, [] { emulation::exchange(1u << (current.thread.x % 32), 0, 31); }), Error);
  EXPECT_THROW(emulation::run_kernel({{1, 1, 1}, {33, 1, 1}, 0}, [] {}), Error);
  // And it works again afterwards.
  int count = 0;
  emulation::run_kernel(shape, [&] {
    emulation::block_barrier();
    ++count;
  });
  EXPECT_EQ(count, 64);
}

TEST(CudaEmulation, ExceptionsLeaveTheKernel) {
  const auto fail = [] {
    emulation::block_barrier();
    if (current.thread.x == 7) throw Error("seven");
    emulation::block_barrier();
  };
  EXPECT_THROW(emulation::run_kernel({{4, 1, 1}, {32, 1, 1}, 0}, fail), Error);
}

TEST(CudaEmulation, SharedMemoryStartsAsNanAndItsEndIsWatched) {
  emulation::run_kernel({{4, 1, 1}, {32, 1, 1}, 32 * sizeof(float)}, [] {
    const unsigned t = current.thread.x;
    EXPECT_NE(shared_floats()[t], shared_floats()[t]);
    shared_floats()[t] = 1.0f;
  });
  const auto write_behind = [] {
    if (current.thread.x == 0) shared_floats()[32] = 1.0f;
  };
  EXPECT_THROW(emulation::run_kernel({{1, 1, 1}, {32, 1, 1}, 32 * sizeof(float)}, write_behind), Error);
}

TEST(CudaEmulation, GlobalMemoryIsGuarded) {
  auto* before = static_cast<float*>(emulation::allocate(10 * sizeof(float)));
  EXPECT_NE(before[9], before[9]);
  before[-1] = 0.0f;
  EXPECT_THROW(emulation::release(before), Error);
  auto* behind = static_cast<float*>(emulation::allocate(10 * sizeof(float)));
  behind[10] = 0.0f;
  EXPECT_THROW(emulation::release(behind), Error);
  auto* fine = static_cast<float*>(emulation::allocate(10 * sizeof(float)));
  fine[0] = fine[9] = 0.0f;
  EXPECT_NO_THROW(emulation::release(fine));
  EXPECT_THROW(emulation::release(fine), Error);
  EXPECT_EQ(emulation::allocated_bytes(), 0u);
}

TEST(CudaEmulationDeathTest, ReadingFarBehindGlobalMemoryEndsTheProgram) {
  EXPECT_DEATH(
      {
        auto* data = static_cast<volatile float*>(emulation::allocate(16 * sizeof(float)));
        const float behind = data[16];
        static_cast<void>(behind);
      },
      "");
}

/// What `reference` has and `table` lacks, one line each.
std::string missing_rows(const KernelTable& table, const KernelTable& reference) {
  std::string missing;
  const auto compare = [&missing](const auto& row, const auto& wanted) {
    for (int d = 0; d < kNumDTypes; ++d) {
      const DType dtype = static_cast<DType>(d);
      if (wanted.get(dtype) != nullptr && row.get(dtype) == nullptr) {
        missing += concat(row.name, " ", dtype_name(dtype), "\n");
      }
    }
  };
#define ONDOL_COMPARE_ROW(row, Args) compare(table.row, reference.row);
  ONDOL_KERNEL_ROWS(ONDOL_COMPARE_ROW)
#undef ONDOL_COMPARE_ROW
  return missing;
}

TEST(CudaRows, EveryRowOfTheCpuHasACudaKernel) {
  EXPECT_EQ(missing_rows(emulated_cuda_table(), cpu_backend().table), "");
}

TEST(CudaRows, AMissingRowIsNamed) {
  KernelTable table = emulated_cuda_table();
  table.rope.set(DType::bf16, nullptr);
  table.adamw.set(DType::f32, nullptr);
  EXPECT_EQ(missing_rows(table, cpu_backend().table), "rope bf16\nadamw f32\n");
}

}  // namespace
}  // namespace ondol
