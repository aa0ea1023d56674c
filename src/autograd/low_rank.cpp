#include "autograd/low_rank.h"

#include <algorithm>
#include <utility>

#include <ondol/ops/elementwise.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/quantized.h>

namespace ondol {

namespace {
thread_local const RngKey* dropout_key = nullptr;
}

LowRankDropout::LowRankDropout(const RngKey& key) : key_(key), previous_(std::exchange(dropout_key, &key_)) {}
LowRankDropout::~LowRankDropout() { dropout_key = previous_; }
const RngKey* LowRankDropout::current() { return dropout_key; }

}  // namespace ondol

namespace ondol::functions {

namespace {

int64_t rank_of(const LowRankUpdate& update) { return update.parts.front().b.shape()[1]; }

/// One product does for all parts: what lies outside a part's rows is multiplied by zeros.
Tensor widen(const LowRankUpdate& update, int64_t out) {
  if (update.parts.size() == 1 && update.parts.front().rows == out) return update.parts.front().b.value();
  const int64_t rank = rank_of(update);
  const Variable& first = update.parts.front().b;
  const Tensor wide =
      Tensor::zeros({out, rank * static_cast<int64_t>(update.parts.size())}, first.dtype(), first.device());
  int64_t column = 0;
  for (const LowRankUpdate::Part& part : update.parts) {
    wide.narrow(0, part.row_start, part.rows).narrow(1, column, rank).copy_from(part.b.value());
    column += rank;
  }
  return wide;
}

}  // namespace

bool requires_grad(const LowRankUpdate& update) {
  return update.a.requires_grad() ||
         std::any_of(update.parts.begin(), update.parts.end(), [](const auto& part) { return part.b.requires_grad(); });
}

LowRankProduct::LowRankProduct(const LowRankUpdate& update, const Tensor& x, int64_t out)
    : wide_b_(widen(update, out)), scale_(update.scale) {
  if (LowRankDropout::current() != nullptr) {
    dropout_ = update.dropout;
    key_ = *LowRankDropout::current();
    key_.stream += update.stream;
  }
  inner_ = ops::linear(dropped(x), {.weight = update.a.value()});
  ops::scale_in_place(inner_, scale_);
}

Tensor LowRankProduct::dropped(const Tensor& x) const { return ops::dropout(x, dropout_, key_); }

Tensor LowRankProduct::add_to(const Tensor& base) const {
  return ops::linear(inner_, {.weight = wide_b_, .residual = base});
}

Tensor LowRankProduct::backward(const LowRankUpdate& update, const Tensor& grad, const Tensor& x,
                                const Tensor& grad_x) const {
  const int64_t rank = rank_of(update);
  int64_t column = 0;
  for (const LowRankUpdate::Part& part : update.parts) {
    if (part.b.requires_grad()) {
      const GradientTarget target = part.b.grad_target();
      ops::linear_backward_weight_into(target.tensor, grad.narrow(-1, part.row_start, part.rows),
                                       inner_.narrow(-1, column, rank), target.accumulate);
    }
    column += rank;
  }
  const Tensor grad_inner = ops::linear_backward_input(grad, wide_b_);
  ops::scale_in_place(grad_inner, scale_);
  if (update.a.requires_grad()) {
    const GradientTarget target = update.a.grad_target();
    ops::linear_backward_weight_into(target.tensor, grad_inner, dropped(x), target.accumulate);
  }
  if (!grad_x.defined()) return grad_x;
  if (dropout_ > 0.0f) {
    return ops::dropout_add(ops::linear_backward_input(grad_inner, update.a.value()), grad_x, dropout_, key_);
  }
  return ops::linear(grad_inner, {.weight = update.a.value().transpose(0, 1), .residual = grad_x});
}

}  // namespace ondol::functions

namespace ondol {

Tensor merged_weight(const Variable& weight) {
  const QuantizedWeight* blocks = weight.quantized();
  const Tensor values = blocks != nullptr ? ops::dequantize(*blocks, blocks->dtype) : weight.value();
  const LowRankUpdate* update = weight.low_rank();
  if (update == nullptr) return values;
  const Tensor wide_b = functions::widen(*update, values.size(0));
  return ops::add(values, ops::scale(ops::matmul(wide_b, update->a.value()), update->scale));
}

}  // namespace ondol
