// What the parts of the CUDA backend share. Nothing here is compiled for the emulation.
#pragma once

#include <array>
#include <mutex>

#include <cuda_runtime.h>

#include "backend/backend.h"

namespace ondol::cuda {

inline constexpr int kMaxDevices = 64;

/// One entry for each device, made when it is first asked for.
template <class T>
class PerDevice {
 public:
  template <class Make>
  T& get(Device device, const Make& make) {
    Slot& slot = slots_[static_cast<size_t>(device.index)];
    std::call_once(slot.once, [&] { slot.value = make(); });
    return slot.value;
  }

 private:
  struct Slot {
    std::once_flag once;
    T value{};
  };
  std::array<Slot, kMaxDevices> slots_;
};

/// Makes the device the calling thread's; throws when there is none of this number.
void select(Device device);

/// The stream of all kernels of a device; selects the device.
cudaStream_t stream_of(Device device);

// transfer.cu
void upload(void* out, const void* in, size_t bytes, Device device);
Download start_download(const void* in, size_t bytes, Device device);
void wait_download(const Download& download, Device device);
void release_download(const Download& download, Device device);

// capture.cu
void begin_capture(Device device);
CapturedWork* end_capture(Device device);
void replay(CapturedWork* work, Device device);
void release_captured(CapturedWork* work, Device device);

}  // namespace ondol::cuda
