#include "emulated_cuda.h"

#include <cstring>

namespace ondol {

namespace cuda_emulated {
void fill_cuda_table(KernelTable& table);
}

const KernelTable& emulated_cuda_table() { return emulated_cuda_backend().table; }

const Backend& emulated_cuda_backend() {
  static const Backend instance = [] {
    Backend b{};
    b.name = "cuda (emulated)";
    b.device_count = [] { return 1; };
    b.allocate = [](size_t bytes, Device) { return emulation::allocate(bytes); };
    b.release = [](void* memory, size_t, Device) { emulation::release_later_error(memory); };
    b.reuses_memory = false;
    b.copy_bytes = [](void* out, const void* in, size_t bytes, Device) { std::memcpy(out, in, bytes); };
    b.synchronize = [](Device) {};
    b.stream = [](Device) -> Stream { return nullptr; };
    b.describe = [] {
      return std::vector<DeviceDescription>{
          {.device = {DeviceType::cuda, 0}, .name = "emulated", .architecture = "none"}};
    };
    cuda_emulated::fill_cuda_table(b.table);
    return b;
  }();
  return instance;
}

}  // namespace ondol
