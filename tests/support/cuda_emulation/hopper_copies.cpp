#include <algorithm>
#include <cstring>

#include <ondol/base/error.h>

#include "emulator.h"
#include "hopper.h"

namespace ondol::cuda_emulated {
extern unsigned char ondol_shared_memory[];
}  // namespace ondol::cuda_emulated

namespace ondol::emulation {

namespace {

constexpr size_t kSharedBytes = size_t{227} << 10;
constexpr uint32_t kFirstAddress = 1072;  // where a block's own shared memory begins: a multiple of 16, no more
constexpr int kRowElements = 64;
constexpr size_t kRowBytes = 2 * kRowElements, kUnitBytes = 16;

/// Shared memory as copies and products see it; what ordinary stores write comes here with a fence only.
struct AsyncView {
  uint64_t block = 0;
  unsigned char bytes[kSharedBytes];
};

AsyncView& view() {
  static AsyncView instance;
  if (instance.block != block_count()) {
    instance.block = block_count();
    std::memset(instance.bytes, 0xff, kSharedBytes);
  }
  return instance;
}

unsigned char* seen_by_copies(const unsigned char* at) {
  return view().bytes + (at - cuda_emulated::ondol_shared_memory);
}

void write_to_both(unsigned char* at, const void* bytes, size_t count) {
  std::memcpy(at, bytes, count);
  std::memcpy(seen_by_copies(at), bytes, count);
}

}  // namespace

uint32_t shared_address(const void* pointer) {
  const auto* at = static_cast<const unsigned char*>(pointer);
  const unsigned char* begin = cuda_emulated::ondol_shared_memory;
  if (at < begin || at >= begin + kSharedBytes) throw_error("emulated kernel: an address is not in shared memory");
  return kFirstAddress + static_cast<uint32_t>(at - begin);
}

unsigned char* shared_pointer(uint32_t address, size_t bytes, const char* what) {
  if (address < kFirstAddress || address - kFirstAddress + bytes > shared_bytes()) {
    throw_error("emulated kernel: ", what, " is outside shared memory");
  }
  return cuda_emulated::ondol_shared_memory + (address - kFirstAddress);
}

void check_async_view(const unsigned char* at, size_t bytes) {
  if (std::memcmp(at, seen_by_copies(at), bytes) != 0) {
    throw_error("emulated kernel: a product reads what was stored without fence.proxy.async");
  }
}

void fence_async_proxy() { std::memcpy(view().bytes, cuda_emulated::ondol_shared_memory, shared_bytes()); }

bool can_be_boxed(const BoxedTensor& tensor) {
  if (reinterpret_cast<uintptr_t>(tensor.data) % 16 != 0) return false;
  for (const int64_t size : tensor.sizes) {
    if (size < 1 || size > int64_t{1} << 32) return false;
  }
  for (const int64_t stride : tensor.strides) {
    if (stride < 1 || stride % 8 != 0 || stride >= int64_t{1} << 39) return false;
  }
  const auto fits = [](int size) { return size >= 1 && size <= 256; };
  return tensor.box[0] == kRowElements && std::all_of(tensor.box.begin(), tensor.box.end(), fits);
}

void copy_box(void* shared, const BoxedTensor& tensor, const std::array<int, 4>& at, uint64_t* barrier) {
  if (shared_address(shared) % 1024 != 0) {
    throw_error("emulated kernel: the target of a copy with 128-byte swizzle is not aligned to 1024 bytes");
  }
  auto* const target = static_cast<unsigned char*>(shared);
  const size_t rows = static_cast<size_t>(tensor.box[1]) * tensor.box[2] * tensor.box[3];
  shared_pointer(shared_address(shared), rows * kRowBytes, "the target of a copy");
  std::memset(target, 0xff, rows * kRowBytes);
  std::memset(seen_by_copies(target), 0xff, rows * kRowBytes);
  in_background([=] {
    const auto inside = [&](int d, int64_t i) { return i >= 0 && i < tensor.sizes[static_cast<size_t>(d)]; };
    for (size_t row = 0; row < rows; ++row) {
      const int64_t i1 = at[1] + static_cast<int64_t>(row) % tensor.box[1];
      const int64_t i2 = at[2] + static_cast<int64_t>(row) / tensor.box[1] % tensor.box[2];
      const int64_t i3 = at[3] + static_cast<int64_t>(row) / (int64_t{tensor.box[1]} * tensor.box[2]);
      const bool row_inside = inside(1, i1) && inside(2, i2) && inside(3, i3);
      const uint16_t* source = static_cast<const uint16_t*>(tensor.data) + i1 * tensor.strides[0] +
                               i2 * tensor.strides[1] + i3 * tensor.strides[2];
      uint16_t elements[kRowElements];
      for (int e = 0; e < kRowElements; ++e) {
        elements[e] = row_inside && inside(0, at[0] + e) ? source[at[0] + e] : uint16_t{0};
      }
      for (size_t unit = 0; unit < kRowBytes / kUnitBytes; ++unit) {
        write_to_both(target + row * kRowBytes + (unit ^ row % 8) * kUnitBytes, elements + unit * kUnitBytes / 2,
                      kUnitBytes);
      }
    }
    mbarrier_complete(barrier, static_cast<unsigned>(rows * kRowBytes));
  });
}

}  // namespace ondol::emulation
