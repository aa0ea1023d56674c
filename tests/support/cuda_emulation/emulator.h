// Runs CUDA kernels on the host, one block after the other, each CUDA thread as a fiber.
//
// What it checks that a GPU would not say:
//  - Threads are scheduled at random (emulation_seed): a missing barrier shows as a changed or NaN result.
//  - Shared memory holds NaN bytes when a block begins; writing past the requested size is an error, and so is reading
//  or
//    writing from the next page on.
//  - Global memory from emulated_allocate ends at a page without access rights, and the bytes around it are checked.
//  - Diverging barriers and shuffles, lanes missing from a mask, and blocks of partial warps are errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace ondol::emulation {

struct Index3 {
  unsigned x = 1, y = 1, z = 1;
};

struct LaunchShape {
  Index3 grid, block;
  size_t shared_bytes = 0;
};

/// What the running CUDA thread sees as threadIdx, blockIdx, ...
struct ThreadContext {
  Index3 thread, block, block_dim, grid_dim;
};
extern ThreadContext current;

/// Runs `body` once for each thread of each block. Throws ondol::Error on any misuse.
void run_kernel(const LaunchShape& shape, const std::function<void()>& body);

/// Kernels run so far.
uint64_t launch_count();
/// Blocks run so far, of all kernels: what belongs to one block is fresh when this changes.
uint64_t block_count();
/// Shared memory that the running kernel asked for.
size_t shared_bytes();

/// The seed of the scheduler; every launch continues the sequence.
void set_seed(uint64_t seed);

// Called by the running CUDA thread.
void block_barrier();
/// Waits until all lanes of the mask arrive, then returns the value that lane `source` of this warp brought along.
uint64_t exchange(unsigned mask, uint64_t value, int source);
/// As exchange; returns one bit for each lane of the mask that brought `predicate`.
unsigned vote(unsigned mask, bool predicate);
/// Waits until ready() holds, which is asked again after every notify() and once more before the thread goes on.
void wait_until(const std::function<bool()>& ready);
/// A condition of wait_until may hold now.
void notify();
/// What goes on beside the threads: done at a random time, at the latest when no thread can go on. A block must not end
/// before it is done.
void in_background(std::function<void()> work);

/// "Device" memory with a guard page behind it and checked bytes on both sides. release throws when those have changed.
void* allocate(size_t bytes);
void release(void* memory);
/// As release, but keeps the error for the next allocate, release or run_kernel (for destructors).
void release_later_error(void* memory) noexcept;
/// Bytes not yet released.
size_t allocated_bytes();

}  // namespace ondol::emulation
