#include "tensor/give_back.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace ondol {

namespace {

/// The whole pages inside a part.
struct Pages {
  explicit Pages(const Tensor& part) : size(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    ONDOL_CHECK(part.is_contiguous(), "[give_back] the part must be contiguous");
    const auto first = reinterpret_cast<uintptr_t>(part.raw());
    const uintptr_t last = first + static_cast<size_t>(part.numel()) * dtype_size(part.dtype());
    begin = (first + size - 1) / size * size;
    end = last / size * size;
  }
  bool empty() const { return end <= begin; }
  void* address() const { return reinterpret_cast<void*>(begin); }
  size_t bytes() const { return empty() ? 0 : end - begin; }

  size_t size;
  uintptr_t begin = 0, end = 0;
};

}  // namespace

void give_back(const Tensor& part) {
  if (part.device().type != DeviceType::cpu || part.numel() == 0) return;
  const Pages pages(part);
  if (pages.empty()) return;
  ONDOL_CHECK(::madvise(pages.address(), pages.bytes(), MADV_DONTNEED) == 0, "cannot give back ", pages.bytes(),
              " bytes of memory: ", std::strerror(errno));
}

Tensor zeros_without_memory(const Shape& shape, DType dtype, Device device) {
  if (device.type != DeviceType::cpu) return Tensor::zeros(shape, dtype, device);
  const Tensor tensor = Tensor::empty(shape, dtype, device);
  const Tensor flat = tensor.reshape({-1});
  const Pages pages(flat);
  if (pages.empty()) {
    flat.zero();
    return tensor;
  }
  give_back(flat);
  const auto first = reinterpret_cast<uintptr_t>(flat.raw());
  const auto begin = static_cast<int64_t>((pages.begin - first) / dtype_size(dtype));
  const auto end = static_cast<int64_t>((pages.end - first) / dtype_size(dtype));
  flat.narrow(0, 0, begin).zero();
  flat.narrow(0, end, flat.numel() - end).zero();
  return tensor;
}

size_t resident_bytes(const Tensor& part) {
  const size_t all = static_cast<size_t>(part.numel()) * dtype_size(part.dtype());
  if (part.device().type != DeviceType::cpu || part.numel() == 0) return all;
  const Pages pages(part);
  if (pages.empty()) return all;
  std::vector<unsigned char> resident(pages.bytes() / pages.size);
  if (::mincore(pages.address(), pages.bytes(), resident.data()) != 0) return all;
  size_t count = 0;
  for (const unsigned char page : resident) count += page & 1u;
  return count * pages.size;
}

}  // namespace ondol
