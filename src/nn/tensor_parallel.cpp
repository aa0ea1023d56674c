#include <ondol/nn/tensor_parallel.h>

#include <ondol/autograd/tensor_parallel.h>

namespace ondol {

TokenRows::TokenRows(Communicator* group, const Shape& tokens) : group_(group), tokens_(tokens) {
  ONDOL_CHECK(group == nullptr || tokens.ndim() == 2, "tokens of shape ", tokens, " cannot be split over ranks");
}

int64_t TokenRows::share(int64_t count) const {
  if (group_ == nullptr) return count;
  ONDOL_CHECK(count % group_->size() == 0, count, " cannot be shared out among ", group_->size(), " ranks");
  return count / group_->size();
}

SelfAttentionSettings TokenRows::share(SelfAttentionSettings whole) const {
  if (group_ == nullptr) return whole;
  whole.all_heads = whole.num_heads;
  whole.num_heads = share(whole.num_heads);
  whole.num_kv_heads = share(whole.num_kv_heads);
  whole.first_head = group_->rank() * whole.num_heads;
  return whole;
}

LossScale TokenRows::share(LossScale whole) const {
  if (group_ != nullptr) whole.value /= static_cast<float>(group_->size());
  return whole;
}

RngKey TokenRows::of_rows(RngKey key, int64_t width) const {
  if (group_ != nullptr) key.first += group_->rank() * functions::rows_of_rank(tokens_.numel(), *group_) * width;
  return key;
}

RngKey TokenRows::of_columns(RngKey key, int64_t width) const {
  if (group_ == nullptr) return key;
  key.row_length = share(width);
  key.row_stride = width;
  key.first += group_->rank() * key.row_length;
  return key;
}

Tensor TokenRows::own(const Tensor& values, int32_t fill) const {
  if (group_ == nullptr) return values;
  ONDOL_CHECK(values.shape() == tokens_ && values.dtype() == DType::i32, "values ", values.shape(), " of tokens ",
              tokens_);
  const int64_t all = tokens_.numel(), count = functions::rows_of_rank(all, *group_);
  Tensor rows = values.contiguous().reshape({all});
  if (count * group_->size() != all) {
    const Tensor padded = Tensor::full({count * group_->size()}, fill, DType::i32, values.device());
    padded.narrow(0, 0, all).copy_from(rows);
    rows = padded;
  }
  return rows.narrow(0, group_->rank() * count, count).reshape({1, count});
}

Variable TokenRows::own(const Variable& states) const {
  if (group_ == nullptr) return states;
  const int64_t all = tokens_.numel(), count = functions::rows_of_rank(all, *group_), width = states.shape()[-1];
  Variable rows = functions::reshape(states, {all, width});
  if (const int64_t missing = count * group_->size() - all; missing > 0) {
    rows = functions::concat({rows, Variable(Tensor::zeros({missing, width}, states.dtype(), states.device()))}, 0);
  }
  return functions::reshape(functions::narrow(rows, 0, group_->rank() * count, count), {1, count, width});
}

Variable TokenRows::whole(const Variable& own) const {
  if (group_ == nullptr) return own;
  const Variable rows = functions::gather_rows(own, tokens_.numel(), *group_);
  return functions::reshape(rows, {tokens_[0], tokens_[1], own.shape()[-1]});
}

Variable TokenRows::column_linear(const Variable& x, const functions::LinearInputs& inputs) const {
  if (group_ == nullptr) return functions::linear(x, inputs);
  return functions::column_parallel_linear(x, inputs, tokens_, *group_);
}

Variable TokenRows::row_linear(const Variable& x, const functions::LinearInputs& inputs) const {
  if (group_ == nullptr) return functions::linear(x, inputs);
  return functions::row_parallel_linear(x, inputs, *group_);
}

}  // namespace ondol
