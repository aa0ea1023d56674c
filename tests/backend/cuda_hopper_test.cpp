// The emulated barriers, copies and products of compute capability 9.0 against what the PTX ISA documents, and the
// mistakes that they find.
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <ondol/base/dtype.h>
#include <ondol/base/error.h>

#include "support/cuda_emulation/emulated_cuda.h"
#include "support/cuda_emulation/hopper.h"

namespace ondol {

namespace cuda_emulated {
extern unsigned char ondol_shared_memory[];
}

namespace {

using emulation::current;

constexpr int kGroup = 128;
const emulation::LaunchShape kOneGroup{{1, 1, 1}, {kGroup, 1, 1}, 96 << 10};

int thread() { return static_cast<int>(current.thread.x); }
/// From the first address on that is a multiple of 1024.
unsigned char* shared(size_t at) {
  unsigned char* const begin = cuda_emulated::ondol_shared_memory;
  return begin + (1024 - emulation::shared_address(begin) % 1024) % 1024 + at;
}
uint64_t* barrier(size_t number) { return reinterpret_cast<uint64_t*>(shared(64 << 10)) + number; }

void for_schedules(const std::function<void()>& body, const emulation::LaunchShape& shape = kOneGroup) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    emulation::set_seed(seed);
    emulation::run_kernel(shape, body);
  }
}

/// Why the kernel was refused; empty if it was not.
std::string refusal(const std::function<void()>& body, uint64_t seed = 1) {
  emulation::set_seed(seed);
  try {
    emulation::run_kernel(kOneGroup, body);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Warp 0 hands numbers to the others through one place, which two barriers make full and empty in turn.
TEST(CudaHopper, BarriersHandAPlaceToAndFro) {
  int wrong = 0;
  for_schedules([&] {
    auto* place = reinterpret_cast<volatile int*>(shared(0));
    if (thread() == 0) {
      emulation::mbarrier_init(barrier(0), 1);
      emulation::mbarrier_init(barrier(1), 96);
    }
    emulation::block_barrier();
    for (unsigned turn = 0; turn < 6; ++turn) {
      if (thread() >= 32) {
        emulation::mbarrier_wait(barrier(0), turn & 1);
        wrong += *place != static_cast<int>(turn);
        emulation::mbarrier_arrive(barrier(1), 0);
      } else if (thread() == 0) {
        emulation::mbarrier_wait(barrier(1), (turn & 1) ^ 1);  // at first: passes
        *place = static_cast<int>(turn);
        emulation::mbarrier_arrive(barrier(0), 0);
      }
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(CudaHopper, NamedBarriersHoldAPartOfTheBlock) {
  int wrong = 0;
  for_schedules([&] {
    auto* value = reinterpret_cast<volatile int*>(shared(0));
    if (thread() < 32) return;  // goes home before
    if (thread() < 64) {
      if (thread() == 40) *value = 7;
      emulation::named_barrier(3, 96, false);
    } else {
      emulation::named_barrier(3, 96, true);
      wrong += *value != 7;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(CudaHopper, RegistersChangeHands) {
  const emulation::LaunchShape three_groups{{1, 1, 1}, {384, 1, 1}, 64};
  for_schedules([] { emulation::set_registers(thread() < 128 ? 40 : 232); }, three_groups);
  EXPECT_THROW(for_schedules([] { emulation::set_registers(thread() < 128 ? 40 : 240); }, three_groups), Error);
}

/// A box arrives as rows of 128 bytes; unit u of row r lies at u ^ (r % 8); zeros outside the tensor.
TEST(CudaHopper, BoxesArriveSwizzled) {
  constexpr int64_t kColumns = 72, kHeads = 3, kRows = 20, kBatch = 2;
  std::vector<bfloat16> values(kBatch * kRows * kHeads * kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i].bits = static_cast<uint16_t>(i + 1);
  const EmulatedArray<bfloat16> data(values);
  const emulation::BoxedTensor tensor{data.data(),
                                      {kColumns, kHeads, kRows, kBatch},
                                      {kColumns, kHeads * kColumns, kRows * kHeads * kColumns},
                                      {64, 1, 16, 1}};
  ASSERT_TRUE(emulation::can_be_boxed(tensor));
  int wrong = 0, early = 0;
  for (const auto& at : {std::array<int, 4>{0, 1, 0, 1}, {64, 2, 8, 0}, {0, 0, -5, 1}, {0, 0, 20, 0}}) {
    for_schedules([&] {
      if (thread() == 0) emulation::mbarrier_init(barrier(0), 1);
      emulation::block_barrier();
      if (thread() == 0) {
        emulation::mbarrier_arrive(barrier(0), 16 * 128);
        emulation::copy_box(shared(1024), tensor, at, barrier(0));
        early += shared(1024)[77] != 0xff;
      }
      emulation::mbarrier_wait(barrier(0), 0);
      for (int row = thread(); row < 16; row += kGroup) {
        for (int column = 0; column < 64; ++column) {
          uint16_t got;
          std::memcpy(&got, shared(1024) + row * 128 + (column / 8 ^ row % 8) * 16 + column % 8 * 2, 2);
          const int64_t c = at[0] + column, t = at[2] + row;
          const bool inside = c < kColumns && t >= 0 && t < kRows;
          const int64_t index = ((at[3] * kRows + t) * kHeads + at[1]) * kColumns + c;
          wrong += got != (inside ? static_cast<uint16_t>(index + 1) : 0);
        }
      }
    });
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(early, 0);
  auto refused = tensor;
  refused.strides[1] += 1;
  EXPECT_FALSE(emulation::can_be_boxed(refused));
  refused = tensor;
  refused.data = data.data() + 1;
  EXPECT_FALSE(emulation::can_be_boxed(refused));
}

/// Small integers: all sums are exact.
std::vector<float> integers(size_t count, uint64_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<float> out(count);
  for (float& x : out) x = static_cast<float>(static_cast<int>(random() % 17) - 8);
  return out;
}

/// As documented for the 128-byte swizzle: rows of 128 bytes, units exchanged by the row number within eight rows.
void put(size_t tile, int row, int column, float value) {
  const uint16_t bits = bfloat16(value).bits;
  std::memcpy(shared(tile) + row * 128 + (column / 8 ^ row % 8) * 16 + column % 8 * 2, &bits, 2);
}
/// PTX ISA, "Matrix Descriptor Format" of wgmma: units of 16 bytes, mode 1.
uint64_t descriptor(const unsigned char* start, uint64_t leading, uint64_t stride) {
  return emulation::shared_address(start) / 16 | leading / 16 << 16 | stride / 16 << 32 | uint64_t{1} << 62;
}

constexpr size_t kTileA = 0, kTileB = 16 << 10;

/// What a test of products leaves out or does beside them.
struct Faults {
  bool fence = true, proxy_fence = true, commit = true, wait = true;
  std::function<void(float* d)> before_wait = [](float*) {};
};

/// d (64 x 8 blocks) = 1 + a (64 x 64) b, checked element by element; returns how many were wrong.
int wrong_products(int blocks, bool a_in_registers, bool transposed_b, const Faults& faults = {}) {
  const int columns = 8 * blocks;
  const auto a = integers(64 * 64, 3), b = integers(static_cast<size_t>(64 * columns), 4);
  int wrong = 0;
  emulation::run_kernel(kOneGroup, [&] {
    for (int i = thread(); i < 64 * 64; i += kGroup) put(kTileA, i / 64, i % 64, a[static_cast<size_t>(i)]);
    for (int i = thread(); i < 64 * columns; i += kGroup) {
      const int k = i / columns, n = i % columns;
      if (transposed_b) {  // rows are k; 64 columns to a panel
        put(kTileB + static_cast<size_t>(n / 64) * (8 << 10), k, n % 64, b[static_cast<size_t>(i)]);
      } else {  // rows are n
        put(kTileB, n, k, b[static_cast<size_t>(i)]);
      }
    }
    if (faults.proxy_fence) emulation::fence_async_proxy();
    emulation::block_barrier();
    const int lane = thread() % 32, warp = thread() / 32;
    std::vector<float> d(static_cast<size_t>(4 * blocks), 1.0f);
    uint32_t left[4][4];
    for (int step = 0; step < 4; ++step) {
      for (int i = 0; i < 8; ++i) {  // as documented: a_i of .m64nNk16
        const int row = 16 * warp + lane / 4 + (i / 2 % 2 == 1 ? 8 : 0),
                  k = 16 * step + lane % 4 * 2 + i % 2 + (i >= 4 ? 8 : 0);
        uint16_t half[2] = {bfloat16(a[static_cast<size_t>(row * 64 + k)]).bits, 0};
        uint32_t& pair = left[step][i / 2];
        pair = i % 2 == 0 ? half[0] : pair | static_cast<uint32_t>(half[0]) << 16;
      }
    }
    if (faults.fence) emulation::fence_products();
    for (int step = 0; step < 4; ++step) {
      const uint64_t of_a = descriptor(shared(kTileA) + 32 * step, 16, 1024);
      const uint64_t of_b = transposed_b ? descriptor(shared(kTileB) + 2048 * step, 8 << 10, 1024)
                                         : descriptor(shared(kTileB) + 32 * step, 16, 1024);
      emulation::start_product({d.data(), blocks, a_in_registers ? left[step] : nullptr, a_in_registers ? 0 : of_a,
                                of_b, true, transposed_b});
    }
    if (faults.commit) emulation::commit_products();
    wrong += !std::isnan(d[0]);
    faults.before_wait(d.data());
    if (faults.wait) emulation::wait_products(0);
    for (int i = 0; i < 4 * blocks; ++i) {  // as documented: d_i of .m64nNk16
      const int row = 16 * warp + lane / 4 + (i / 2 % 2 == 1 ? 8 : 0), column = i / 4 * 8 + lane % 4 * 2 + i % 2;
      float expected = 1.0f;
      for (int k = 0; k < 64; ++k) {
        expected += a[static_cast<size_t>(row * 64 + k)] * b[static_cast<size_t>(k * columns + column)];
      }
      wrong += d[static_cast<size_t>(i)] != expected;
    }
  });
  return wrong;
}

TEST(CudaHopper, ProductsFollowDescriptorsAndFragments) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    emulation::set_seed(seed);
    for (const int blocks : {8, 16}) {
      for (const bool registers : {false, true}) {
        for (const bool transposed : {false, true}) {
          EXPECT_EQ(wrong_products(blocks, registers, transposed), 0) << blocks << registers << transposed;
        }
      }
    }
  }
}

TEST(CudaHopper, MistakesWithProductsAreFound) {
  const auto refused = [](const Faults& faults) {
    try {
      return wrong_products(8, false, true, faults) > 0 ? std::string("wrong") : std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(refused({}), "");
  EXPECT_NE(refused({.fence = false}).find("without wgmma.fence"), std::string::npos);
  EXPECT_NE(refused({.proxy_fence = false}).find("without fence.proxy.async"), std::string::npos);
  EXPECT_EQ(refused({.commit = false}), "wrong");
  EXPECT_EQ(refused({.wait = false}), "wrong");
  EXPECT_NE(refused({.before_wait = [](float* d) { d[5] *= 2.0f, d[6] = 0.0f; }}).find("accumulators have changed"),
            std::string::npos);
  EXPECT_NE(refused({.before_wait =
                         [](float*) {
                           if (thread() == 3) put(kTileB, 9, 9, 100.0f);
                         }})
                .find("shared memory has changed"),
            std::string::npos);
  const auto other_operand = [](int who, uint64_t more) {
    return refusal([=] {
      float d[32] = {};
      emulation::fence_async_proxy();
      emulation::fence_products();
      const uint64_t b = descriptor(shared(kTileB), 8 << 10, 1024) + (thread() / who == 1 ? more : 0);
      emulation::start_product({d, 8, nullptr, descriptor(shared(kTileA), 16, 1024), b, false, true});
      emulation::commit_products();
      emulation::wait_products(0);
    });
  };
  EXPECT_EQ(other_operand(32, 0), "");
  EXPECT_NE(other_operand(32, 2).find("warps of a group"), std::string::npos);
  EXPECT_NE(other_operand(1, 2).find("lanes of a warp"), std::string::npos);
}

TEST(CudaHopper, MistakesWithBarriersAndCopiesAreFound) {
  EXPECT_NE(refusal([] { emulation::mbarrier_wait(barrier(0), 0); }).find("not initialised"), std::string::npos);
  EXPECT_NE(refusal([] {
              if (thread() == 0) emulation::mbarrier_init(barrier(0), 2);
              emulation::block_barrier();
              emulation::mbarrier_wait(barrier(0), 0);
            }).find("wait for each other"),
            std::string::npos);
  EXPECT_NE(refusal([] { emulation::named_barrier(1, 96, true); }).find("wait for each other"), std::string::npos);
  const EmulatedArray<bfloat16> data(size_t{64 * 8});
  const emulation::BoxedTensor tensor{data.data(), {64, 1, 8, 1}, {64, 64, 64}, {64, 1, 8, 1}};
  const auto copy = [&](size_t target, unsigned bytes, bool wait) {
    return refusal([&, target, bytes, wait] {
      if (thread() == 0) {
        emulation::mbarrier_init(barrier(0), 1);
        emulation::mbarrier_arrive(barrier(0), bytes);
        emulation::copy_box(shared(target), tensor, {0, 0, 0, 0}, barrier(0));
      }
      emulation::block_barrier();
      if (wait) emulation::mbarrier_wait(barrier(0), 0);
    });
  };
  EXPECT_EQ(copy(2048, 1024, true), "");
  EXPECT_NE(copy(2048 + 128, 1024, true).find("not aligned"), std::string::npos);
  EXPECT_NE(copy(2048, 1040, true).find("wait for each other"), std::string::npos);
  EXPECT_NE(copy(96 << 10, 1024, true).find("outside shared memory"), std::string::npos);
  int unseen = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    emulation::set_seed(seed);
    try {
      emulation::run_kernel(kOneGroup, [&] {
        if (thread() == 0) {
          emulation::mbarrier_init(barrier(0), 1);
          emulation::mbarrier_arrive(barrier(0), 1024);
          emulation::copy_box(shared(2048), tensor, {0, 0, 0, 0}, barrier(0));
        }
      });
      ++unseen;
    } catch (const Error&) {
    }
  }
  EXPECT_LT(unseen, 20) << "a block that does not wait for its copies";
}

}  // namespace
}  // namespace ondol
