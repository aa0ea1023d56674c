#include "train/objectives/causal.h"

#include <ondol/autograd/functions.h>

namespace ondol {

Tensor shift_labels(const Tensor& labels) {
  ONDOL_CHECK(labels.ndim() == 2 && labels.dtype() == DType::i32,
              "labels of a causal model must be (B, T) integers, got ", labels.shape(), " ",
              dtype_name(labels.dtype()));
  const Tensor shifted = Tensor::full(labels.shape(), kIgnoreIndex, DType::i32, labels.device());
  const int64_t length = labels.size(1);
  if (length > 1) shifted.narrow(1, 0, length - 1).copy_from(labels.narrow(1, 1, length - 1));
  return shifted;
}

Batch with_shifted_labels(Batch batch) {
  if (!batch.labels_shifted) {
    batch.labels = shift_labels(batch.labels);
    batch.labels_shifted = true;
  }
  return batch;
}

Variable causal_loss(Model& model, const Batch& rows, const LossScale& scale, const ForwardContext& context) {
  const Variable hidden = model.hidden(model_input(rows, model.device()), context);
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = model.output_weight();
  inputs.scale = scale;
  return functions::linear_cross_entropy(hidden, rows.labels.contiguous().to(model.device()), inputs);
}

}  // namespace ondol
