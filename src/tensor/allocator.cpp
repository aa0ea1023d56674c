#include <ondol/tensor/allocator.h>

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include <ondol/base/error.h>

#include "backend/backend.h"

namespace ondol {

namespace {

/// Sizes are rounded up to one of eight steps between powers of two, so that slightly different requests share blocks.
size_t rounded_capacity(size_t bytes) {
  if (bytes <= 64) return 64;
  const size_t step = std::max<size_t>(64, std::bit_floor(bytes - 1) / 8);
  return (bytes + step - 1) / step * step;
}

class CachingAllocator {
 public:
  explicit CachingAllocator(Device device) : device_(device) {}

  void* allocate(size_t bytes, size_t& capacity) {
    capacity = backend(device_.type).reuses_memory ? rounded_capacity(bytes) : std::max<size_t>(bytes, 1);
    const std::lock_guard lock(mutex_);
    void* memory = nullptr;
    if (auto found = free_.find(capacity); found != free_.end() && !found->second.empty()) {
      memory = found->second.back();
      found->second.pop_back();
    } else {
      memory = reserve(capacity);
    }
    statistics_.allocated += capacity;
    statistics_.peak = std::max(statistics_.peak, statistics_.allocated);
    return memory;
  }

  void release(void* memory, size_t capacity) noexcept {
    const std::lock_guard lock(mutex_);
    statistics_.allocated -= capacity;
    const Backend& b = backend(device_.type);
    if (b.reuses_memory) {
      free_[capacity].push_back(memory);
    } else {
      b.release(memory, capacity, device_);
      statistics_.reserved -= capacity;
    }
  }

  void release_cached() {
    const std::lock_guard lock(mutex_);
    release_cached_locked();
  }

  MemoryStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.allocated;
  }

 private:
  void* reserve(size_t capacity) {
    const Backend& b = backend(device_.type);
    void* memory = nullptr;
    try {
      memory = b.allocate(capacity, device_);
    } catch (const Error&) {
      release_cached_locked();  // fragmentation: what lies idle in other sizes may be enough
      memory = b.allocate(capacity, device_);
    }
    statistics_.reserved += capacity;
    return memory;
  }

  void release_cached_locked() {
    const Backend& b = backend(device_.type);
    b.synchronize(device_);
    for (auto& [capacity, blocks] : free_) {
      for (void* memory : blocks) b.release(memory, capacity, device_);
      statistics_.reserved -= capacity * blocks.size();
      blocks.clear();
    }
  }

  const Device device_;
  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> free_;
  MemoryStatistics statistics_;
};

CachingAllocator& allocator(Device device) {
  static CachingAllocator* const cpu = new CachingAllocator({});  // lives as long as the last tensor anywhere
  if (device.type == DeviceType::cpu) return *cpu;
  static std::mutex mutex;
  static auto* const others = new std::map<int, CachingAllocator*>();
  const std::lock_guard lock(mutex);
  CachingAllocator*& entry = (*others)[device.index];
  if (entry == nullptr) entry = new CachingAllocator(device);
  return *entry;
}

}  // namespace

MemoryStatistics memory_statistics(Device device) { return allocator(device).statistics(); }
void reset_peak_memory(Device device) { allocator(device).reset_peak(); }
void release_cached_memory(Device device) { allocator(device).release_cached(); }

namespace detail {

void* allocate_block(size_t bytes, Device device, size_t& capacity) {
  return allocator(device).allocate(bytes, capacity);
}

void release_block(void* memory, size_t capacity, Device device) noexcept {
  allocator(device).release(memory, capacity);
}

}  // namespace detail
}  // namespace ondol
