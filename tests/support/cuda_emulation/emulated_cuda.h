// The CUDA kernels of this project, run on the host.
//
//   const KernelTable& table = emulated_cuda_table();
//   EmulatedArray<float> x(values);                 // memory with guards on both sides
//   table.glu.get(DType::f32)(args, nullptr);
//   x.host();                                       // the values back
#pragma once

#include <cstring>
#include <vector>

#include "backend/backend.h"

#include "emulator.h"

namespace ondol {

/// All rows of kernels/table.cu, compiled for the host.
const KernelTable& emulated_cuda_table();

/// The same table with guarded memory behind it; stands in for the CUDA backend wherever a Backend is asked for.
const Backend& emulated_cuda_backend();

/// An array in guarded memory. finish() (or the destructor) checks the guards.
template <class T>
class EmulatedArray {
 public:
  explicit EmulatedArray(const std::vector<T>& values) : count_(values.size()), data_(allocate()) {
    if (count_ > 0) std::memcpy(data_, values.data(), count_ * sizeof(T));
  }
  /// Not initialised: NaN in every float format.
  explicit EmulatedArray(size_t count) : count_(count), data_(allocate()) {}
  ~EmulatedArray() { emulation::release_later_error(data_); }
  EmulatedArray(const EmulatedArray&) = delete;
  EmulatedArray& operator=(const EmulatedArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> host() const { return std::vector<T>(data_, data_ + count_); }

 private:
  T* allocate() const { return static_cast<T*>(emulation::allocate(count_ * sizeof(T))); }
  size_t count_;
  T* data_;
};

}  // namespace ondol
