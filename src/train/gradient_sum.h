// The sum of the gradients of micro-batches in one balanced binary tree over their index.
//
//   GradientSum sum(model.parameters());
//   for (...) { sum.begin(); backward; sum.end(); }
//   sum.finish();                                   // the total is in parameters().flat_gradients()
//
// A binary counter of partial sums: two sums over 2^k micro-batches each meet and become one over 2^(k+1). The tree
// depends on the number of micro-batches alone, so that ranks which hold aligned power-of-two shares of them and add by
// recursive doubling get the same bytes as one process. Buffers exist for as many partial sums as are alive at once
// (log2 n + 1; one for one micro-batch).
#pragma once

#include <vector>

#include <ondol/nn/parameter.h>

namespace ondol {

class GradientSum {
 public:
  explicit GradientSum(ParameterStore& store) : store_(store) {}

  /// Gives the parameters an empty gradient buffer.
  void begin();
  /// Takes over what the backward has left there.
  void end();
  /// Adds up what remains and makes it the store's gradient.
  void finish();

 private:
  struct Partial {
    int rank;  // stands for 2^rank micro-batches
    Tensor gradient;
  };
  Tensor take_buffer();
  void merge_last();

  ParameterStore& store_;
  std::vector<Partial> partials_;  // ranks fall
  std::vector<Tensor> free_;
  Tensor current_;
};

/// The same tree over numbers.
double tree_sum(const std::vector<double>& values);

}  // namespace ondol
