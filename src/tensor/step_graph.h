// A piece of work that is repeated with other data: captured once and replayed as a whole, where the device can do that
// (a CUDA graph), and simply run where it cannot (the CPU).
//
//   StepGraph graph(device);
//   for (...) {
//     upload(inputs, batch);                                   // to fixed places
//     graph.run(shape_of(batch), [&] { ... forward, backward, update ... });
//   }
//
// What the body must keep to: it starts the same kernels with the same arguments whenever `shape` is the same; what
// changes from run to run is read from tensors that stay in place; it does not wait for the device, nor copy from or to
// the host. What it leaves behind in tensors of its own stays there until the next run.
//
// A new shape runs eagerly until a run needed no more memory than the one before, and is captured then. All that the
// body allocates comes from memory that nobody else gets while the captured work exists.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "backend/backend.h"

namespace ondol {

class StepGraph {
 public:
  explicit StepGraph(Device device);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  /// After an exception of the body nothing is captured, and the next run starts over.
  void run(const std::string& shape, const std::function<void()>& body);

  /// Runs that were replays.
  uint64_t replays() const { return replays_; }

 private:
  void forget();
  void capture(const std::function<void()>& body);

  Device device_;
  std::string shape_;
  BlockAllocator::Arena* arena_ = nullptr;
  CapturedWork* work_ = nullptr;
  bool warm_ = false;
  uint64_t replays_ = 0;
};

}  // namespace ondol
