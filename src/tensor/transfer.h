// Values on their way between host and device, without waiting for them.
//
//   upload(inputs, batch.input_ids);           // in place before the work that follows
//   PendingRead loss(tensor);                  // copied once the work before it is done
//   ... more work ...
//   std::vector<float> values = loss.wait_values<float>();
#pragma once

#include <cstddef>
#include <vector>

#include <ondol/tensor/tensor.h>

#include "backend/backend.h"

namespace ondol {

/// Writes the elements of `source` (on the host) to `target`: contiguous, of the same shape and dtype. `source` may be
/// changed as soon as this returns.
void upload(const Tensor& target, const Tensor& source);

class PendingRead {
 public:
  /// `tensor` must be contiguous; what is written to it later does not show.
  explicit PendingRead(const Tensor& tensor);
  ~PendingRead();
  PendingRead(PendingRead&& other) noexcept;
  PendingRead(const PendingRead&) = delete;
  PendingRead& operator=(const PendingRead&) = delete;

  /// Waits for the copy.
  const std::byte* wait();
  size_t bytes() const { return bytes_; }

  /// The elements as a tensor on the host, which keeps the memory of the copy; waits for it.
  Tensor wait_tensor() &&;

  template <class T>
  std::vector<T> wait_values() {
    const T* values = reinterpret_cast<const T*>(wait());
    return {values, values + bytes_ / sizeof(T)};
  }

 private:
  Device device_;
  Shape shape_;
  DType dtype_;
  size_t bytes_ = 0;
  Download download_{};
};

}  // namespace ondol
