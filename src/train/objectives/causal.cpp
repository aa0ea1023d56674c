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

void check_causal_samples(const Batch& example, const Model& model) {
  const ModelInfo& info = model.info();
  const auto fail = [](const auto&... why) {
    throw UsageError(concat("samples do not fit the model: ", why..., " (data)"));
  };
  const Shape& shape = example.input_ids.shape();
  const auto check = [&](const char* name, const Tensor& tensor, DType dtype) {
    if (!tensor.defined()) return;
    if (tensor.shape() != shape) {
      fail("for one sample \"", name, "\" is ", tensor.shape(), ", \"input_ids\" ", shape);
    }
    if (tensor.dtype() != dtype) fail("\"", name, "\" holds ", dtype_name(tensor.dtype()), ", integers are needed");
  };
  check("labels", example.labels, DType::i32);
  check("attention_mask", example.attention_mask, DType::u8);
  check("position_ids", example.positions, DType::i32);
  for (const auto& [name, tensor] : example.others) {
    fail("\"", name, "\" is no input of a ", info.model_type, " model");
  }
  if (!example.positions.defined() && shape[1] > info.max_positions) {
    fail(shape[1], " tokens a sample, the model allows ", info.max_positions, " positions");
  }
}

Variable causal_loss(Model& model, const Batch& rows, const LossScale& scale, const ForwardContext& context) {
  const Variable hidden = model.hidden(model_input(rows, model.device()), context);
  functions::LinearCrossEntropyInputs inputs;
  inputs.weight = model.output_weight();
  inputs.scale = scale;
  return functions::linear_cross_entropy(hidden, rows.labels.contiguous().to(model.device()), inputs);
}

}  // namespace ondol
