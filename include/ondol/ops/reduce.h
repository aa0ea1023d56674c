// Reductions, softmax, gather and scatter.
//
//   Tensor total = ops::sum(x, 0);                      // (T, C) -> (C)
//   Tensor p = ops::softmax(logits);                    // over the last dimension
//
// Sums run in f32 in an order that depends on the shape alone.
#pragma once

#include <vector>

#include <ondol/tensor/tensor.h>

namespace ondol::ops {

/// Over one dimension, which is dropped. The result has the dtype of x; sum_f32 keeps f32.
Tensor sum(const Tensor& x, int dim);
Tensor sum_f32(const Tensor& x, int dim);
Tensor mean(const Tensor& x, int dim);
Tensor max(const Tensor& x, int dim);
/// target (f32, the shape of x without its last dimension's rows: (C)) (+)= sum over all leading dimensions of x (.., C).
void sum_rows_into(const Tensor& target, const Tensor& x, bool accumulate);
/// Index of the largest element of each row of the last dimension, the first of equals: i32, last dimension dropped.
Tensor argmax(const Tensor& x);

Tensor softmax(const Tensor& x);
Tensor log_softmax(const Tensor& x);
/// `out` is the forward's result.
Tensor softmax_backward(const Tensor& grad_output, const Tensor& out);
Tensor log_softmax_backward(const Tensor& grad_output, const Tensor& out);

/// torch.gather: out[.., i, ..] = x[.., index[.., i, ..], ..] along dim; index is i32 with the ndim of x, equal sizes
/// elsewhere. Indices on the host are checked.
Tensor gather(const Tensor& x, int dim, const Tensor& index);
/// target[.., index[.., i, ..], ..] += source[.., i, ..] in the order of i; target contiguous.
void scatter_add(const Tensor& target, int dim, const Tensor& index, const Tensor& source);
/// Tensors of one dtype that agree outside dim, one behind the other.
Tensor concat(const std::vector<Tensor>& tensors, int dim);

}  // namespace ondol::ops
