// Working memory of a kernel call: grows to the largest request of the calling thread and is kept for the next call.
// One buffer a thread: a kernel asks once per call.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace ondol::cpu::ONDOL_ISA {
namespace {

struct Scratch {
  void* memory = nullptr;
  size_t capacity = 0;

  ~Scratch() { std::free(memory); }

  template <class T>
  T* get(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    if (bytes > capacity) {
      std::free(memory);
      capacity = 0;
      memory = std::aligned_alloc(64, bytes);
      if (memory == nullptr) throw std::bad_alloc();
      capacity = bytes;
    }
    return static_cast<T*>(memory);
  }
};

}  // namespace
}  // namespace ondol::cpu::ONDOL_ISA
