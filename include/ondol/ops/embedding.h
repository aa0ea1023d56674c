// Rows of a table by id.
//
//   Tensor h = ops::embedding(table, ids);               // (V, C), (B, T) i32 -> (B, T, C)
#pragma once

#include <ondol/tensor/tensor.h>

namespace ondol::ops {

/// Ids on the host are checked against V; the error names the first bad one and its place.
Tensor embedding(const Tensor& table, const Tensor& ids);

/// grad_table (V, C) f32 (+)= rows of grad_output at their ids, in order. Without accumulate the other rows become 0.
/// The row padding_idx (when >= 0) receives nothing.
void embedding_backward_into(const Tensor& grad_table, const Tensor& grad_output, const Tensor& ids, bool accumulate,
                             int64_t padding_idx = -1);

/// x (B, T, C), rows (B, P) i32 -> (B, P, C): row rows[b, p] of x[b]. Rows on the host are checked against T.
Tensor take_rows(const Tensor& x, const Tensor& rows);

/// grad_x (B, T, C) f32: the sum of grad_output (B, P, C) over the places where a row was taken, in order.
Tensor take_rows_backward(const Tensor& grad_output, const Tensor& rows, int64_t length);

}  // namespace ondol::ops
