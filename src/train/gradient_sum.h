// The sum of the gradients of micro-batches, over all ranks, in one balanced binary tree over their index.
//
//   GradientSum sum(model.parameters(), ranks);
//   sum.set_contributors(ranks that have micro-batches);
//   for (this rank's micro-batches) { sum.begin(is_last); backward; sum.end(); }
//   sum.finish();                                   // the total is in parameters().flat_gradients()
//
// A binary counter of partial sums: two sums over 2^k micro-batches each meet and become one over 2^(k+1). The tree
// depends on the number of micro-batches alone: ranks that hold aligned power-of-two shares of them (train/ranks.h) and
// add those up in a tree as well (distributed/communicator.h) get the same bytes as one process. Buffers exist for as
// many partial sums as are alive at once (log2 n + 1; one for one micro-batch).
//
// Ranks add up while the backward of their last micro-batch is still at work: in the first step it is seen after which
// layer (after_backward) each parameter's gradient has got all its parts, and from then on the gradients of layers that
// are through are sent in buckets, those used last first. All ranks send the same buckets in the same order, also those
// that have no micro-batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ondol/models/layer_hooks.h>

#include "train/ranks.h"

namespace ondol {

class GradientSum final : public LayerHooks {
 public:
  explicit GradientSum(ParameterStore& store, const Ranks& ranks = Ranks()) : store_(store), ranks_(ranks) {}

  /// The first so many ranks have micro-batches in the steps that follow.
  void set_contributors(int contributors) { contributors_ = contributors; }
  /// Gives the parameters an empty gradient buffer. `last`: no other micro-batch of this rank follows in this step.
  void begin(bool last);
  void after_backward(const LayerParameters& layer) override;
  /// Takes over what the backward has left there.
  void end();
  /// Adds up what remains, on all ranks, and makes it the store's gradient.
  void finish();

  /// Another loss may use the parameters in another order: what was seen of it is forgotten. On all ranks together.
  void forget_order() { order_ = Order(); }

 private:
  struct Partial {
    int rank;  // stands for 2^rank micro-batches
    Tensor gradient;
  };
  /// Elements [begin, end) of the flat buffer, whose gradients are complete after so many layers of a backward.
  struct Bucket {
    int64_t layers, begin, end;
  };
  struct Order {
    bool known = false;
    std::vector<int64_t> layers;   // by entry of the store: complete after so many layers
    std::vector<uint32_t> writes;  // by entry, as of the last look
    std::vector<Bucket> buckets;   // in the order of sending; together all elements
  };
  Tensor take_buffer();
  void merge_last();
  void look();
  void make_plan();
  void send_until(int64_t layers);
  void add_up(int64_t begin, int64_t end);

  ParameterStore& store_;
  const Ranks ranks_;
  std::vector<Partial> partials_;  // ranks fall
  std::vector<Tensor> free_;
  Tensor current_;
  bool last_ = false;
  int64_t layers_ = 0;  // done in this backward
  size_t sent_ = 0;     // buckets of this step
  int contributors_ = 1;
  std::vector<CommEvent> under_way_;
  Order order_;
};

/// The same tree over numbers.
double tree_sum(const std::vector<double>& values);

}  // namespace ondol
