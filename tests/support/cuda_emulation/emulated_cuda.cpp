#include "emulated_cuda.h"

#include <cstdlib>
#include <cstring>

#include "recording.h"
#include "workspace.h"

namespace ondol {

namespace cuda_emulated {

void fill_cuda_table(KernelTable& table);

WorkspaceBlock allocate_workspace(const char*, size_t bytes, Stream) {
  return {emulation::allocate(bytes), nullptr, nullptr};
}

void release_workspace(const WorkspaceBlock& workspace) noexcept {
  emulation::release_workspace_memory(workspace.data);
}

}  // namespace cuda_emulated

namespace {

class GuardedMemory final : public SystemMemory {
 public:
  void* allocate(size_t bytes) override { return emulation::allocate(bytes); }
  void release(void* memory, size_t) override { emulation::release_later_error(memory); }
  std::string name() const override { return "cuda:0 (emulated)"; }
};

/// Every block has its own guards, and is gone when it is released.
BlockAllocator& guarded_memory(Device) {
  static BlockAllocator& instance = *new BlockAllocator(*new GuardedMemory(), {.split = false, .reuse = false});
  return instance;
}

void copy_bytes(void* out, const void* in, size_t bytes, Device) {
  emulation::forbid_while_recording("a copy that waits");
  if (bytes > 0) std::memcpy(out, in, bytes);
}

Download start_download(const void* in, size_t bytes, Device) {
  emulation::forbid_while_recording("a copy to the host");
  void* const copy = std::malloc(bytes);
  if (bytes > 0) std::memcpy(copy, in, bytes);
  return {copy, nullptr};
}

}  // namespace

struct CapturedWork {
  emulation::Recording recording;
};

namespace {

void release_captured(CapturedWork* work, Device) {
  for (void* memory : work->recording.workspaces) emulation::release_later_error(memory);
  delete work;
}

}  // namespace

const KernelTable& emulated_cuda_table() { return emulated_cuda_backend().table; }

const Backend& emulated_cuda_backend() {
  static const Backend instance = [] {
    Backend b{};
    b.name = "cuda (emulated)";
    b.device_count = [] { return 1; };
    b.memory = guarded_memory;
    b.copy_bytes = copy_bytes;
    b.upload = copy_bytes;
    b.start_download = start_download;
    b.wait_download = [](const Download&, Device) {};
    b.release_download = [](const Download& download, Device) { std::free(download.data); };
    b.synchronize = [](Device) { emulation::forbid_while_recording("waiting"); };
    b.begin_capture = [](Device) { emulation::begin_recording(); };
    b.end_capture = [](Device) { return new CapturedWork{emulation::end_recording()}; };
    b.replay = [](CapturedWork* work, Device) {
      for (const auto& call : work->recording.calls) call();
    };
    b.release_captured = release_captured;
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
