// The two thin products of a low-rank addition and their backward, for functions::linear.
#pragma once

#include <ondol/autograd/low_rank.h>

namespace ondol::functions {

class LowRankProduct {
 public:
  /// Computes s dropout(x) A^T of an update of a weight with `out` rows.
  LowRankProduct(const LowRankUpdate& update, const Tensor& x, int64_t out);

  /// base + s dropout(x) A^T B^T.
  Tensor add_to(const Tensor& base) const;

  /// From the gradient of the sum to those of A and B, and, when grad_x (what reaches x through the weight) is defined,
  /// to the whole gradient of x.
  Tensor backward(const LowRankUpdate& update, const Tensor& grad, const Tensor& x, const Tensor& grad_x) const;

 private:
  Tensor dropped(const Tensor& x) const;

  Tensor inner_;   // (.., parts rank)
  Tensor wide_b_;  // (out, parts rank): each part's B in its own rows and columns
  float dropout_ = 0.0f, scale_ = 1.0f;
  RngKey key_;
};

/// True when one of the matrices wants a gradient.
bool requires_grad(const LowRankUpdate& update);

}  // namespace ondol::functions
