#include "backend/cpu/scratch.h"

#include <cstdlib>

#include <sys/mman.h>

#include <ondol/base/error.h>

namespace ondol::cpu {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

struct Buffer {
  void* memory = nullptr;
  size_t capacity = 0;

  ~Buffer() { std::free(memory); }
};

}  // namespace

void* thread_scratch(ScratchSlot slot, size_t bytes) {
  static thread_local Buffer buffers[static_cast<int>(ScratchSlot::count)];
  Buffer& buffer = buffers[static_cast<int>(slot)];
  if (bytes <= buffer.capacity) return buffer.memory;
  std::free(buffer.memory);
  buffer = Buffer{};
  const size_t unit = bytes >= kHugePage / 2 ? kHugePage : 4096;
  const size_t rounded = (bytes + unit - 1) / unit * unit;
  if (rounded < bytes || posix_memalign(&buffer.memory, unit, rounded) != 0) {
    buffer.memory = nullptr;
    throw Error(concat("out of memory: ", bytes >> 20, " MiB asked for CPU kernel scratch"));
  }
  if (unit == kHugePage) madvise(buffer.memory, rounded, MADV_HUGEPAGE);
  buffer.capacity = rounded;
  return buffer.memory;
}

}  // namespace ondol::cpu
