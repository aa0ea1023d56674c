// Products whose weight is split over the ranks of a group, and the collectives between them (Shoeybi et al. 2019,
// "Megatron-LM"; the rows of tokens between the products are split too: Korthikanti et al. 2022).
//
//   const TokenRows rows(group, batch, length);                               // nn/tensor_parallel.h
//   Variable up = functions::column_parallel_linear(x, {.weight = own_rows}, {batch, length}, group);    // (B, T, F /
//   P) Variable y = functions::row_parallel_linear(up, {.weight = own_columns, .residual = x}, group);      // (1, n,
//   C)
//
// Legend: P ranks in the group; N = B T tokens; each rank holds n = ceil(N / P) rows of what stands between the
// products, those of rank r begin at r n, and what is behind row N has no meaning and no effect. Every rank of the
// group calls the same functions in the same order, in the backward too. Results do not depend on timing; they agree
// with the unsplit product up to the rounding of a sum over P parts.
//
// Gradients of biases and of other weights that every rank holds whole are those of the own rows: their sum over the
// group is the gradient.
#pragma once

#include <ondol/autograd/functions.h>
#include <ondol/distributed/communicator.h>

namespace ondol::functions {

/// Own rows (.., n, C) -> all of them (rows, C). The backward adds up what the ranks have computed of the gradient, and
/// gives each its own rows.
Variable gather_rows(const Variable& own, int64_t rows, Communicator& group);

/// The sum over the ranks of x (rows, C), own rows of it: (n, C). The backward gathers.
Variable reduce_scatter_rows(const Variable& x, Communicator& group);

/// act(x w^T + bias) for all rows, where weight and bias are this rank's outputs: x (.., n, C) -> (tokens.., out). `x`
/// is gathered once more in the backward instead of being kept; that is done beside the product with the weight, and
/// the sum of its gradient beside the gradient of the weight. No residual, no low-rank addition.
Variable column_parallel_linear(const Variable& x, const LinearInputs& inputs, const Shape& tokens,
                                Communicator& group);

/// The sum over the ranks of x w^T, own rows of it, + bias + residual (both whole, of the own rows): x (B, T, in),
/// where `in` are this rank's inputs -> (1, n, out). No activation, no low-rank addition.
Variable row_parallel_linear(const Variable& x, const LinearInputs& inputs, Communicator& group);

/// Rows of a rank: ceil(rows / size).
int64_t rows_of_rank(int64_t rows, const Communicator& group);

}  // namespace ondol::functions
