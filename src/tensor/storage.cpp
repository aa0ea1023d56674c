#include <ondol/tensor/allocator.h>
#include <ondol/tensor/tensor.h>

#include <new>

namespace ondol {

Storage* Storage::allocate(size_t bytes, Device device) {
  void* block = nullptr;
  void* memory = detail::allocate_block(bytes, device, block);
  Storage* storage = new Storage();
  storage->data_ = memory;
  storage->bytes_ = bytes;
  storage->block_ = block;
  storage->device_ = device;
  return storage;
}

Storage* Storage::borrow(void* memory, size_t bytes, Device device, std::function<void()> on_release) {
  Storage* storage = new Storage();
  storage->data_ = memory;
  storage->bytes_ = bytes;
  storage->device_ = device;
  storage->on_release_ = std::move(on_release);
  return storage;
}

void Storage::destroy() noexcept {
  if (block_ != nullptr) detail::release_block(block_, device_);
  if (on_release_) on_release_();
  delete this;
}

}  // namespace ondol
