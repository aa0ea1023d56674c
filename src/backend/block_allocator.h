// The caching allocator of a device: freed blocks are kept and handed out again, so that a training step, which asks
// for the same sizes each time, touches the system's memory only once.
//
//   BlockAllocator allocator(system, {.granularity = 512, .steps = 64, .split = true});
//   BlockAllocator::Block* block = allocator.allocate(bytes);     // block->data
//   allocator.release(block);
//
// Sizes are rounded up to `steps` classes between powers of two. With `split`, segments of several MiB are cut into
// blocks and freed neighbours become one block again (a GPU, where asking the system is slow and stops the device);
// without, every block is the system's own and is only reused for its class (the CPU).
//
// Order: a block may be handed out again as soon as it is released. All kernels of a device run on one stream, so the
// new owner's work comes after the old one's. Whoever uses memory on another stream waits for that before releasing it.
//
// Arenas: between use_arena(a) and use_arena(null) all blocks come from segments of `a`, and go back there. A captured
// step keeps its arena, so that nobody else gets memory that it will write to when it is replayed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace ondol {

/// What the allocator stands on; replaced by tests.
class SystemMemory {
 public:
  virtual ~SystemMemory() = default;
  /// Aligned to 64 bytes or more; null when there is no memory.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* memory, size_t bytes) = 0;
  /// Waits until the device is done with memory that is about to be released.
  virtual void synchronize() {}
  /// For messages: "cuda:0", and "312 of 81559 MiB are free" or "".
  virtual std::string name() const = 0;
  virtual std::string free_memory() const { return ""; }
};

struct AllocatorPolicy {
  size_t granularity = 64;  // every size is a multiple of it; a power of two
  size_t steps = 8;         // size classes between powers of two; a power of two
  bool split = false;
  /// False: outside of arenas no freed block is kept and no size rounded up, so that a device which guards its memory (the
  /// emulated one of the tests) sees every block's own bounds and life.
  bool reuse = true;
};

struct AllocatorStatistics {
  size_t allocated = 0;             // bytes in use now
  size_t peak = 0;                  // the most bytes in use since reset_peak
  size_t reserved = 0;              // bytes held from the system, in use or cached
  uint64_t system_allocations = 0;  // requests that went to the system
};

class BlockAllocator {
 public:
  struct Segment;
  class Arena;
  struct Block {
    void* data = nullptr;
    size_t size = 0;

   private:
    friend class BlockAllocator;
    Segment* segment = nullptr;
    Block *before = nullptr, *behind = nullptr;  // neighbours in the segment
    Block *previous_free = nullptr, *next_free = nullptr;
    bool free = false;
  };

  BlockAllocator(SystemMemory& system, const AllocatorPolicy& policy);
  ~BlockAllocator();
  BlockAllocator(const BlockAllocator&) = delete;
  BlockAllocator& operator=(const BlockAllocator&) = delete;

  /// At least `bytes` bytes. Throws Error, which says what is in use, when the system has no more.
  Block* allocate(size_t bytes);
  void release(Block* block) noexcept;

  AllocatorStatistics statistics() const;
  void reset_peak();
  /// Gives segments without a block in use back to the system; those of arenas stay.
  void release_cached();

  Arena* make_arena();
  /// null: the memory that is nobody's own.
  void use_arena(Arena* arena);
  /// The arena's memory becomes nobody's own.
  void drop_arena(Arena* arena);
  /// While false, a request that would go to the system throws.
  void set_growth(bool allowed);

 private:
  void* request(size_t bytes);
  bool keeps() const { return policy_.reuse || current_ != arenas_.front().get(); }
  Block* take(size_t size);
  Block* reserve(size_t size);
  void cut(Block* block, size_t size);
  Block* join(Block* first, Block* second);
  void release_cached_locked();
  [[noreturn]] void throw_out_of_memory(size_t bytes) const;

  SystemMemory& system_;
  const AllocatorPolicy policy_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Segment>> segments_;
  std::vector<std::unique_ptr<Arena>> arenas_;  // the first one is nobody's own
  Arena* current_;
  bool may_grow_ = true;
  AllocatorStatistics statistics_;
};

}  // namespace ondol
