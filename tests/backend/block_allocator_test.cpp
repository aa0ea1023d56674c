#include "backend/block_allocator.h"

#include <cstring>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

namespace ondol {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

/// A device of `capacity` bytes whose addresses are made up: the allocator never looks behind them.
class FakeDevice final : public SystemMemory {
 public:
  explicit FakeDevice(size_t capacity) : capacity_(capacity) {}

  void* allocate(size_t bytes) override {
    if (used + bytes > capacity_) return nullptr;
    used += bytes;
    void* memory = reinterpret_cast<void*>(next_);
    next_ += bytes + 4096;  // segments are never neighbours
    live[memory] = bytes;
    return memory;
  }
  void release(void* memory, size_t bytes) override {
    ASSERT_EQ(live.at(memory), bytes);
    EXPECT_TRUE(synchronized) << "memory released under a running kernel";
    live.erase(memory);
    used -= bytes;
  }
  void synchronize() override { synchronized = true; }
  std::string name() const override { return "cuda:7"; }
  std::string free_memory() const override { return "3 of 100 MiB are free"; }

  size_t used = 0;
  bool synchronized = false;
  std::map<void*, size_t> live;

 private:
  size_t capacity_;
  uintptr_t next_ = uintptr_t{1} << 40;
};

constexpr AllocatorPolicy kGpu{.granularity = 512, .steps = 64, .split = true};
constexpr AllocatorPolicy kCpu{.granularity = 64, .steps = 8, .split = false};

/// Blocks in use never overlap, lie inside the device's memory, and what they sum up to is what the allocator says.
TEST(BlockAllocator, RandomRequestsNeverOverlap) {
  for (const AllocatorPolicy& policy : {kGpu, kCpu}) {
    FakeDevice device(size_t{1} << 40);
    BlockAllocator allocator(device, policy);
    std::mt19937_64 random(5);
    std::map<uintptr_t, BlockAllocator::Block*> held;  // by address
    size_t in_use = 0, peak = 0;
    for (int step = 0; step < 20000; ++step) {
      if (held.size() < 5 || (random() % 100 < 52 && held.size() < 400)) {
        const size_t bytes = random() % (size_t{1} << (random() % 27));
        BlockAllocator::Block* block = allocator.allocate(bytes);
        ASSERT_GE(block->size, std::max<size_t>(bytes, 1));
        ASSERT_EQ(block->size % policy.granularity, 0u);
        if (bytes > 64 * policy.granularity && !policy.split) {
          ASSERT_LE(block->size, bytes + bytes / 8 + 64);
        }
        const auto address = reinterpret_cast<uintptr_t>(block->data);
        ASSERT_EQ(address % 64, 0u);
        const auto behind = held.lower_bound(address);
        if (behind != held.end()) {
          ASSERT_LE(address + block->size, behind->first);
        }
        if (behind != held.begin()) {
          const auto before = std::prev(behind);
          ASSERT_LE(before->first + before->second->size, address);
        }
        auto home = device.live.upper_bound(block->data);
        ASSERT_NE(home, device.live.begin());
        --home;
        ASSERT_LE(address + block->size, reinterpret_cast<uintptr_t>(home->first) + home->second);
        held[address] = block;
        in_use += block->size;
        peak = std::max(peak, in_use);
      } else {
        auto victim = held.begin();
        std::advance(victim, random() % held.size());
        in_use -= victim->second->size;
        allocator.release(victim->second);
        held.erase(victim);
      }
      const AllocatorStatistics now = allocator.statistics();
      ASSERT_EQ(now.allocated, in_use);
      ASSERT_EQ(now.peak, peak);
      ASSERT_EQ(now.reserved, device.used);
    }
    for (const auto& [address, block] : held) allocator.release(block);
    EXPECT_EQ(allocator.statistics().allocated, 0u);
    allocator.release_cached();
    EXPECT_EQ(device.used, 0u) << "neighbours were not joined again";
    EXPECT_EQ(allocator.statistics().reserved, 0u);
  }
}

TEST(BlockAllocator, ARepeatedStepAsksTheSystemOnce) {
  FakeDevice device(size_t{1} << 36);
  BlockAllocator allocator(device, kGpu);
  std::mt19937_64 random(9);
  std::vector<size_t> sizes;
  for (int i = 0; i < 200; ++i) sizes.push_back(1 + random() % (size_t{1} << (8 + random() % 18)));
  const auto step = [&] {
    std::vector<BlockAllocator::Block*> blocks;
    std::vector<void*> places;
    for (const size_t bytes : sizes) {
      blocks.push_back(allocator.allocate(bytes));
      places.push_back(blocks.back()->data);
      if (blocks.size() % 3 == 0) {
        allocator.release(blocks[blocks.size() / 2]);
        blocks.erase(blocks.begin() + static_cast<ptrdiff_t>(blocks.size() / 2));
      }
    }
    for (BlockAllocator::Block* block : blocks) allocator.release(block);
    return places;
  };
  step();
  step();
  const AllocatorStatistics before = allocator.statistics();
  const std::vector<void*> places = step();
  EXPECT_EQ(allocator.statistics().system_allocations, before.system_allocations);
  EXPECT_EQ(allocator.statistics().reserved, before.reserved);
  allocator.set_growth(false);
  EXPECT_EQ(step(), places) << "a captured step finds its memory where the step before it did";
}

TEST(BlockAllocator, NeighboursBecomeOneBlockAgain) {
  FakeDevice device(64 * kMiB);
  BlockAllocator allocator(device, kGpu);
  std::vector<BlockAllocator::Block*> blocks;
  for (int i = 0; i < 5; ++i) blocks.push_back(allocator.allocate(4 * kMiB));
  EXPECT_EQ(device.live.size(), 1u) << "five blocks share a segment of 20 MiB";
  void* const start = blocks[0]->data;
  for (const int i : {1, 3, 0, 4, 2}) allocator.release(blocks[static_cast<size_t>(i)]);
  BlockAllocator::Block* whole = allocator.allocate(20 * kMiB);
  EXPECT_EQ(whole->data, start);
  EXPECT_EQ(device.live.size(), 1u);
  allocator.release(whole);
}

TEST(BlockAllocator, SmallBlocksDoNotPinLargeSegments) {
  FakeDevice device(size_t{1} << 30);
  BlockAllocator allocator(device, kGpu);
  BlockAllocator::Block* large = allocator.allocate(100 * kMiB);
  allocator.release(large);
  BlockAllocator::Block* small = allocator.allocate(1000);
  allocator.release_cached();
  EXPECT_EQ(device.used, 2 * kMiB);
  allocator.release(small);
}

TEST(BlockAllocator, WhatLiesIdleIsGivenBackBeforeMemoryRunsOut) {
  FakeDevice device(100 * kMiB);
  BlockAllocator allocator(device, kGpu);
  allocator.release(allocator.allocate(60 * kMiB));
  BlockAllocator::Block* block = allocator.allocate(80 * kMiB);  // fits only without the 60
  EXPECT_EQ(device.used, 80 * kMiB);
  BlockAllocator::Block* cached = allocator.allocate(500);
  allocator.release(cached);
  try {
    allocator.allocate(30 * kMiB);
    FAIL() << "more than the device has";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "out of memory on cuda:7: 30 MiB asked, 80 MiB in use, 0 MiB cached, 3 of 100 MiB are free");
    EXPECT_NE(error.hint().find("train.micro_batch_size"), std::string::npos);
    EXPECT_NE(error.hint().find("train.dtype"), std::string::npos);
  }
  EXPECT_THROW(allocator.allocate(~size_t{0}), Error);
  EXPECT_THROW(allocator.allocate(size_t{1} << 62), Error);
  allocator.release(block);
  EXPECT_NO_THROW(allocator.release(allocator.allocate(90 * kMiB)));
}

TEST(BlockAllocator, WithoutReuseBlocksAreTheSystemsOwn) {
  FakeDevice device(size_t{1} << 30);
  BlockAllocator allocator(device, {.reuse = false});
  BlockAllocator::Block* block = allocator.allocate(1001);
  EXPECT_EQ(device.live.at(block->data), 1001u);
  allocator.release(block);
  EXPECT_EQ(device.used, 0u);
  BlockAllocator::Arena* arena = allocator.make_arena();
  allocator.use_arena(arena);
  block = allocator.allocate(1001);
  void* const place = block->data;
  allocator.release(block);
  block = allocator.allocate(1001);
  EXPECT_EQ(block->data, place) << "arenas keep theirs";
  allocator.use_arena(nullptr);
  allocator.release(block);
  EXPECT_GT(device.used, 0u);
  allocator.drop_arena(arena);
  EXPECT_EQ(device.used, 0u);
}

TEST(BlockAllocator, ArenasKeepTheirMemoryToThemselves) {
  for (const AllocatorPolicy& policy : {kGpu, kCpu}) {
    FakeDevice device(size_t{1} << 30);
    BlockAllocator allocator(device, policy);
    BlockAllocator::Arena* arena = allocator.make_arena();
    allocator.use_arena(arena);
    BlockAllocator::Block* lasting = allocator.allocate(3 * kMiB);
    BlockAllocator::Block* passing = allocator.allocate(5 * kMiB);
    void* const place = passing->data;
    allocator.release(passing);
    allocator.use_arena(nullptr);
    BlockAllocator::Block* outside = allocator.allocate(5 * kMiB);
    EXPECT_NE(outside->data, place) << "memory of the arena was given away";
    allocator.release_cached();
    allocator.use_arena(arena);
    allocator.set_growth(false);
    BlockAllocator::Block* again = allocator.allocate(5 * kMiB);
    EXPECT_EQ(again->data, place);
    EXPECT_THROW(allocator.allocate(200 * kMiB), Error);
    allocator.set_growth(true);
    allocator.release(again);
    allocator.drop_arena(arena);
    BlockAllocator::Block* reused =
        allocator.allocate((policy.split ? 17 : 5) * kMiB);  // all that was left of a segment
    EXPECT_EQ(reused->data, place) << "dropped, and nobody may use it";
    for (BlockAllocator::Block* block : {lasting, outside, reused}) allocator.release(block);
    allocator.release_cached();
    EXPECT_EQ(device.used, 0u);
  }
}

}  // namespace
}  // namespace ondol
