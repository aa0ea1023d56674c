// What a training does around each layer of a stack: fetch its weights and let go of them, send its gradients.
//
//   struct Counting : LayerHooks {
//     void after_backward(const LayerParameters& layer) override { ++done; }
//     int done = 0;
//   } hooks;
//   ForwardContext context;
//   context.layers = &hooks;
//
// The hooks must outlive the backward. Without a tape the two of the backward are not called.
#pragma once

#include <ondol/nn/parameter.h>

namespace ondol {

class LayerHooks {
 public:
  virtual ~LayerHooks() = default;
  virtual void before_forward(const LayerParameters&) {}
  virtual void after_forward(const LayerParameters&) {}
  /// The gradient of the layer's output is complete; not called for a layer that nothing is to be computed for.
  virtual void before_backward(const LayerParameters&) {}
  /// The gradients of the layer, and of what comes behind it, are complete; called for every layer.
  virtual void after_backward(const LayerParameters&) {}
};

}  // namespace ondol
