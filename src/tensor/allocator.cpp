#include <ondol/tensor/allocator.h>

#include "backend/backend.h"

namespace ondol {

namespace {

BlockAllocator& allocator(Device device) {
  if (device.type == DeviceType::cpu) {
    static BlockAllocator& cpu = cpu_backend().memory({});
    return cpu;
  }
  return backend(device.type).memory(device);
}

}  // namespace

MemoryStatistics memory_statistics(Device device) {
  const AllocatorStatistics s = allocator(device).statistics();
  return {s.allocated, s.peak, s.reserved, s.system_allocations};
}

void reset_peak_memory(Device device) { allocator(device).reset_peak(); }
void release_cached_memory(Device device) { allocator(device).release_cached(); }

namespace detail {

void* allocate_block(size_t bytes, Device device, void*& block) {
  BlockAllocator::Block* const found = allocator(device).allocate(bytes);
  block = found;
  return found->data;
}

void release_block(void* block, Device device) noexcept {
  allocator(device).release(static_cast<BlockAllocator::Block*>(block));
}

}  // namespace detail
}  // namespace ondol
