#include <ondol/ops/sampling.h>

#include "ops/checks.h"

namespace ondol::ops {

Tensor sample(const Tensor& logits, const SamplingOptions& options, const SampleInputs& inputs) {
  constexpr const char* op = "sample";
  check_data(op, "logits", logits);
  ONDOL_CHECK(logits.ndim() == 2 && logits.size(1) > 0, "[", op, "] logits have shape ", logits.shape(),
              ": (B, V) is needed");
  const int64_t rows = logits.size(0), cols = logits.size(1);
  const Tensor scores = logits.contiguous();
  Tensor tokens = Tensor::empty({rows}, DType::i32, logits.device());
  SampleArgs args{};
  args.logits = scores.raw();
  args.rows = rows;
  args.cols = cols;
  args.temperature = options.temperature;
  args.top_k = options.top_k;
  args.top_p = options.top_p;
  args.min_p = options.min_p;
  args.repetition_penalty = options.repetition_penalty;
  args.seed = options.seed;
  args.tokens = tokens.data<int32_t>();
  if (inputs.steps.defined()) {
    check_dtype(op, "steps", inputs.steps, DType::i64, logits);
    check_shape(op, "steps", inputs.steps, {rows});
    check_contiguous(op, "steps", inputs.steps);
    args.steps = inputs.steps.data<int64_t>();
  }
  if (options.repetition_penalty != 1.0f) {
    check_dtype(op, "history", inputs.history, DType::i32, logits);
    check_contiguous(op, "history", inputs.history);
    ONDOL_CHECK(inputs.history.ndim() == 2 && inputs.history.size(0) == rows, "[", op, "] history has shape ",
                inputs.history.shape(), ", logits ", logits.shape());
    args.history = inputs.history.data<int32_t>();
    args.history_stride = inputs.history.size(1);
    if (inputs.history_lengths.defined()) {
      check_dtype(op, "history_lengths", inputs.history_lengths, DType::i32, logits);
      check_shape(op, "history_lengths", inputs.history_lengths, {rows});
      check_contiguous(op, "history_lengths", inputs.history_lengths);
      args.history_lengths = inputs.history_lengths.data<int32_t>();
    }
  }
  if (inputs.weights != nullptr) {
    ONDOL_CHECK(options.temperature > 0.0f, "[", op, "] a greedy choice has no weights");
    *inputs.weights = Tensor::zeros({rows, cols}, DType::f32, logits.device());
    args.weights = inputs.weights->data<float>();
  }
  if (rows > 0) run_kernel(&KernelTable::sample, logits.device(), logits.dtype(), args);
  return tokens;
}

}  // namespace ondol::ops
