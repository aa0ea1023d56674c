#include <ondol/tensor/allocator.h>
#include <ondol/tensor/tensor.h>

#include <new>

namespace ondol {

Storage* Storage::allocate(size_t bytes, Device device) {
  size_t capacity = 0;
  void* memory = detail::allocate_block(bytes, device, capacity);
  Storage* storage = new Storage();
  storage->data_ = memory;
  storage->bytes_ = bytes;
  storage->capacity_ = capacity;
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
  if (capacity_ != 0) detail::release_block(data_, capacity_, device_);
  if (on_release_) on_release_();
  delete this;
}

}  // namespace ondol
