// Micro-batches on the model's device, in tensors that keep their place as long as the shapes stay the same.
#pragma once

#include <string>
#include <vector>

#include <ondol/data/batch.h>

namespace ondol {

class DeviceBatch {
 public:
  explicit DeviceBatch(Device device) : device_(device) {}

  /// Puts micro-batches of the host in place, which have the same tensors, without waiting for the device. On another
  /// device positions that they leave out become 0, 1, 2, ...: models need not bring them there in each step.
  void load(const std::vector<Batch>& host);

  const std::vector<Batch>& micro_batches() const { return micro_batches_; }
  /// Names, shapes and dtypes of what is there.
  std::string layout() const;

 private:
  void place(Batch& target, const Batch& source) const;

  Device device_;
  std::vector<Batch> micro_batches_;
};

}  // namespace ondol
