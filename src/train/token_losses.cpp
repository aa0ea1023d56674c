#include <ondol/train/token_losses.h>

#include <ondol/autograd/functions.h>
#include <ondol/base/error.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/reduce.h>

namespace ondol {

namespace {

Variable masked_sum(const Variable& x, const Tensor& mask, std::optional<int> dim) {
  ONDOL_CHECK(x.shape() == mask.shape() && mask.dtype() == DType::f32, "a mask must be f32 and have the shape ",
              x.shape(), ", not ", mask.shape(), " ", dtype_name(mask.dtype()));
  const Variable kept = functions::mul(x, Variable(mask));
  return functions::sum(dim ? kept : functions::reshape(kept, Shape{1, mask.numel()}), dim.value_or(1));
}

}  // namespace

Variable token_log_probs(const Variable& logits, const Tensor& ids) {
  const Shape one_each{ids.size(0), ids.size(1), 1};
  const Variable chosen = functions::gather(functions::log_softmax(logits), 2, ids.reshape(one_each));
  return functions::reshape(chosen, ids.shape());
}

Tensor token_entropy(const Tensor& logits) {
  const Tensor log_probs = ops::log_softmax(logits);
  return ops::scale(ops::sum(ops::mul(ops::softmax(logits), log_probs), -1), -1.0f);
}

Variable masked_normalize(const Variable& x, const Tensor& mask, double constant, std::optional<int> dim) {
  ONDOL_CHECK(constant != 0.0, "a masked sum cannot be divided by 0");
  return functions::scale(masked_sum(x, mask, dim), static_cast<float>(1.0 / constant));
}

Variable masked_mean(const Variable& x, const Tensor& mask, std::optional<int> dim) {
  const Tensor whole = dim ? mask : mask.reshape(Shape{1, mask.numel()});
  const Tensor counts = ops::sum(whole, dim.value_or(1));
  return functions::mul(masked_sum(x, mask, dim),
                        Variable(ops::div(Tensor::full(counts.shape(), 1, DType::f32), counts)));
}

Variable sft_loss(const Variable& log_probs, const Tensor& response_mask, const SftLossOptions& options) {
  const Variable sequences = masked_normalize(log_probs, response_mask, options.constant, 1);
  const double share = 1.0 / static_cast<double>(sequences.shape()[0] * options.accumulation_steps);
  const Variable row = functions::reshape(sequences, Shape{1, sequences.shape()[0]});
  return functions::scale(functions::sum(row, 1), static_cast<float>(-share));
}

}  // namespace ondol
