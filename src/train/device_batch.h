// A batch on the model's device, in tensors that keep their place as long as the shapes stay the same.
#pragma once

#include <string>

#include <ondol/data/batch.h>

namespace ondol {

class DeviceBatch {
 public:
  explicit DeviceBatch(Device device) : device_(device) {}

  /// Puts a batch of the host in place, without waiting for the device. On another device positions that the batch
  /// leaves out become 0, 1, 2, ...: models need not bring them there in each step.
  void load(const Batch& host);

  const Batch& batch() const { return batch_; }
  /// Names, shapes and dtypes of what is there.
  std::string layout() const;

 private:
  void place(Tensor& target, const Tensor& source) const;

  Device device_;
  Batch batch_;
};

}  // namespace ondol
