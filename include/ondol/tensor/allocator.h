// The caching allocator behind tensors: freed blocks are kept and handed out again, so that a training step, which asks
// for the same sizes each time, touches the system's memory only once.
//
//   reset_peak_memory(device);
//   ... a training step ...
//   size_t most = memory_statistics(device).peak;
#pragma once

#include <cstddef>
#include <cstdint>

#include <ondol/base/device.h>

namespace ondol {

struct MemoryStatistics {
  size_t allocated = 0;             // bytes in use now
  size_t peak = 0;                  // the most bytes in use since reset_peak_memory
  size_t reserved = 0;              // bytes held from the system, in use or cached
  uint64_t system_allocations = 0;  // requests that went to the system
};

MemoryStatistics memory_statistics(Device device);
void reset_peak_memory(Device device);

/// Gives cached blocks that are not in use back to the system.
void release_cached_memory(Device device);

namespace detail {
/// At least `bytes` bytes aligned to 64; `block` receives what must be passed back to release_block.
void* allocate_block(size_t bytes, Device device, void*& block);
void release_block(void* block, Device device) noexcept;
}  // namespace detail

}  // namespace ondol
