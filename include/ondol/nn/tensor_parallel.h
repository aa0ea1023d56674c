// What a model's forward needs where its matrices are split over a group of ranks: the rows of tokens that are this
// rank's, and the products between them. Without a group everything is whole, and costs nothing.
//
//   const TokenRows rows(group, input_ids.shape());                           // group null: one process
//   Variable h = functions::embedding(table, rows.own(input_ids, 0));         // (1, n, C); without a group (B, T, C)
//   Variable qkv = rows.column_linear(functions::rms_norm(h, norm, eps), {.weight = qkv_weight});       // (B, T, ..)
//   Variable mixed = self_attention(qkv, layer, rows.share({.num_heads = 8, ...}), masks, nullptr);
//   h = rows.row_linear(mixed, {.weight = o_proj_weight, .residual = h});                               // (1, n, C)
//
// Norms, dropout, residuals, embeddings and the loss see the own rows of all B T tokens only (sequence parallelism,
// Korthikanti et al. 2022), attention and the inner part of an MLP all tokens of the own heads and columns (Shoeybi et
// al. 2019). autograd/tensor_parallel.h says what the products do.
#pragma once

#include <ondol/autograd/functions.h>
#include <ondol/distributed/communicator.h>
#include <ondol/nn/self_attention.h>
#include <ondol/ops/loss.h>

namespace ondol {

class TokenRows {
 public:
  TokenRows() = default;
  /// Of tokens (B, T). The group must outlive the backward.
  TokenRows(Communicator* group, const Shape& tokens);

  bool is_split() const { return group_ != nullptr; }
  /// Of what is shared out evenly: heads, columns. Throws Error when it cannot be.
  int64_t share(int64_t count) const;
  /// Attention of this rank's heads, as dropout knows them among all.
  SelfAttentionSettings share(SelfAttentionSettings whole) const;
  /// Of a loss that every rank computes whole: what each of them counts of it.
  LossScale share(LossScale whole) const;

  /// A value for each token (B, T) -> those of the own rows (1, n), with `fill` for what is behind the last token.
  Tensor own(const Tensor& values, int32_t fill) const;
  /// States of all tokens (B, T, C), the same in every rank -> those of the own rows (1, n, C), zeros behind the last
  /// token. The backward leaves the gradient of other rows to the other ranks.
  Variable own(const Variable& states) const;
  /// States of the own rows (1, n, C) -> of all tokens (B, T, C). The backward adds up the gradients of all ranks: of
  /// what follows each must compute its own part.
  Variable whole(const Variable& own) const;
  /// (1, n, C) -> (B, T, out): the weight's rows are this rank's.
  Variable column_linear(const Variable& x, const functions::LinearInputs& inputs) const;
  /// (B, T, in) -> (1, n, C): the weight's columns are this rank's, bias and residual whole.
  Variable row_linear(const Variable& x, const functions::LinearInputs& inputs) const;

  /// The random key of (B, T, width) -> that of the own rows (1, n, width) of it.
  RngKey of_rows(RngKey key, int64_t width) const;
  /// The random key of (B, T, width) -> that of the own columns (B, T, width / P) of it.
  RngKey of_columns(RngKey key, int64_t width) const;

 private:
  Communicator* group_ = nullptr;
  Shape tokens_;
};

}  // namespace ondol
