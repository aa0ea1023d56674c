#include <cstdlib>
#include <cstring>
#include <new>

#include <sys/mman.h>
#include <unistd.h>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "backend/backend.h"
#include "backend/cpu/isa.h"

/// Defined by the address sanitizer where a program is built with it.
extern "C" __attribute__((weak)) void __asan_poison_memory_region(const volatile void* address, size_t bytes);

namespace ondol {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

class HostMemory final : public SystemMemory {
 public:
  void* allocate(size_t bytes) override {
    const bool large = bytes >= kHugePage;
    void* memory = nullptr;
    if (posix_memalign(&memory, large ? kHugePage : 64, bytes) != 0) return nullptr;
    // Huge pages make first touch several times cheaper; where the system has none this is a no-op.
    if (large) madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
  }
  void release(void* memory, size_t) override { std::free(memory); }
  std::string name() const override { return "cpu"; }
};

/// Each block is one of the system's, which is quick to ask. Under the address sanitizer none is kept or rounded up: it
/// then sees the bounds of every tensor and its end.
BlockAllocator& memory(Device) {
  static BlockAllocator& instance = *new BlockAllocator(  // outlives all tensors
      *new HostMemory(),
      {.granularity = 64, .steps = 8, .split = false, .reuse = __asan_poison_memory_region == nullptr});
  return instance;
}

void copy_bytes(void* out, const void* in, size_t bytes, Device) { std::memcpy(out, in, bytes); }

std::vector<DeviceDescription> describe() {
  const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  return {{.device = {},
           .name = "cpu",
           .memory_bytes = pages > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page_bytes) : 0,
           .architecture = cpu::active_isa(),
           .processors = num_threads(),
           .driver = ""}};
}

void fill_table(KernelTable& table) {
  [[maybe_unused]] const std::string& isa = cpu::active_isa();
#if defined(ONDOL_HAS_ISA_avx2)
  if (isa == "avx2") return cpu::avx2::fill_table(table);
  cpu::avx512::fill_table(table);
#else
  cpu::portable::fill_table(table);
#endif
#if defined(ONDOL_HAS_ISA_amx)
  if (isa == "amx") cpu::amx::fill_table(table);
#endif
}

}  // namespace

const Backend& cpu_backend() {
  static const Backend instance = [] {
    Backend b{};
    b.name = "cpu";
    b.chunk_bytes = size_t{128} << 20;
    b.device_count = [] { return 1; };
    b.memory = memory;
    b.copy_bytes = copy_bytes;
    b.upload = copy_bytes;
    b.start_download = [](const void* in, size_t bytes, Device) {
      void* const copy = std::malloc(bytes);
      if (copy == nullptr && bytes > 0) throw std::bad_alloc();
      if (bytes > 0) std::memcpy(copy, in, bytes);
      return Download{copy, nullptr};
    };
    b.wait_download = [](const Download&, Device) {};
    b.release_download = [](const Download& download, Device) { std::free(download.data); };
    b.synchronize = [](Device) {};
    b.stream = [](Device) -> Stream { return nullptr; };
    b.describe = describe;
    fill_table(b.table);
    return b;
  }();
  return instance;
}

}  // namespace ondol
