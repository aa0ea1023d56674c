#include <ondol/ops/loss.h>

#include "backend/backend.h"
#include "ops/checks.h"
#include "ops/index_checks.h"
#include "ops/output_rows.h"

namespace ondol::ops {

namespace {

void run_cross_entropy(const Tensor& logits, const Tensor& labels, int32_t ignore_index, float label_smoothing,
                       const Tensor& loss, const Tensor& lse) {
  const int64_t cols = logits.size(-1);
  run_kernel(&KernelTable::cross_entropy, logits.device(), logits.dtype(),
             CrossEntropyArgs{logits.raw(), lse.numel(), cols, cols, labels.data<int32_t>(), ignore_index,
                              loss.data<float>(), lse.data<float>(), label_smoothing});
}

void run_cross_entropy_backward(const Tensor& logits, const Tensor& labels, int32_t ignore_index, const Tensor& lse,
                                const LossScale& scale, const float* grad_scale, const Tensor& grad) {
  const int64_t cols = logits.size(-1);
  run_kernel(
      &KernelTable::cross_entropy_backward, logits.device(), logits.dtype(),
      CrossEntropyBackwardArgs{logits.raw(), lse.numel(), cols, cols, labels.data<int32_t>(), ignore_index,
                               lse.data<float>(), scale.value, grad_scale, grad.raw(), cols, scale.label_smoothing});
}

void run_unary_in_place(const Tensor& x, UnaryKind kind, float parameter) {
  run_kernel(&KernelTable::unary, x.device(), x.dtype(), UnaryArgs{x.raw(), x.raw(), x.numel(), kind, parameter});
}

void check_smoothing(const char* op, float label_smoothing) {
  ONDOL_CHECK(label_smoothing >= 0.0f && label_smoothing < 1.0f, "[", op, "] label smoothing ", label_smoothing,
              " must lie in [0, 1)");
}

}  // namespace

CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& labels, int32_t ignore_index,
                                 float label_smoothing) {
  constexpr const char* op = "cross_entropy";
  check_data(op, "logits", logits);
  check_smoothing(op, label_smoothing);
  const int64_t cols = last_size(op, "logits", logits);
  const int64_t rows = leading_size(logits.shape());
  ONDOL_CHECK(cols > 0 || rows == 0, "[", op, "] logits have shape ", logits.shape());
  const Tensor places = check_labels(op, labels, logits, rows, cols, ignore_index);
  CrossEntropyResult result{Tensor::empty({rows}, DType::f32, logits.device()),
                            Tensor::empty({rows}, DType::f32, logits.device())};
  if (rows > 0) run_cross_entropy(logits.contiguous(), places, ignore_index, label_smoothing, result.loss, result.lse);
  return result;
}

Tensor cross_entropy_backward(const Tensor& logits, const Tensor& labels, const Tensor& lse, const LossScale& scale,
                              const Tensor& grad_scale, int32_t ignore_index) {
  constexpr const char* op = "cross_entropy_backward";
  check_data(op, "logits", logits);
  check_smoothing(op, scale.label_smoothing);
  const int64_t cols = last_size(op, "logits", logits);
  const int64_t rows = leading_size(logits.shape());
  const Tensor places = check_labels(op, labels, logits, rows, cols, ignore_index);
  check_dtype(op, "lse", lse, DType::f32, logits);
  check_shape(op, "lse", lse, {rows});
  check_contiguous(op, "lse", lse);
  if (grad_scale.defined()) {
    check_dtype(op, "grad_scale", grad_scale, DType::f32, logits);
    ONDOL_CHECK(grad_scale.numel() == 1, "[", op, "] grad_scale has shape ", grad_scale.shape(),
                ": one element is needed");
  }
  Tensor grad = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
  if (grad.numel() == 0) return grad;
  run_cross_entropy_backward(logits.contiguous(), places, ignore_index, lse, scale,
                             grad_scale.defined() ? grad_scale.data<float>() : nullptr, grad);
  return grad;
}

namespace {

/// Draws a token for each row of a chunk that counts (see TokenDraw).
void draw_tokens(const TokenDraw& draw, const Tensor& logits, const Tensor& labels, int64_t begin, const Tensor& kept,
                 int32_t ignore_index) {
  ReplaceTokensArgs args{};
  args.logits = logits.data<float>();
  args.rows = logits.size(0);
  args.cols = logits.size(1);
  args.labels = labels.data<int32_t>();
  args.ignore_index = ignore_index;
  args.kept = kept.defined() ? kept.data<int32_t>() + begin : nullptr;
  args.first_row = begin;
  args.positions = draw.positions.defined() ? draw.positions.data<int32_t>() : nullptr;
  args.row_count = draw.positions.defined() ? draw.positions.size(1) : draw.length;
  args.samples = draw.samples.data<int64_t>();
  args.length = draw.length;
  args.seed = draw.seed;
  args.stream = draw.stream;
  args.temperature = draw.temperature;
  args.tokens = draw.tokens.data<int32_t>();
  args.replaced = draw.replaced.data<int32_t>();
  run_kernel(&KernelTable::replace_tokens, logits.device(), DType::f32, args);
}

void check_draw(const char* op, const TokenDraw& draw, const Tensor& hidden, int64_t rows) {
  check_dtype(op, "samples", draw.samples, DType::i64, hidden);
  check_contiguous(op, "samples", draw.samples);
  const int64_t samples = draw.samples.numel(), places = samples * draw.length;
  int64_t row_count = draw.length;
  if (draw.positions.defined()) {
    check_dtype(op, "positions", draw.positions, DType::i32, hidden);
    check_contiguous(op, "positions", draw.positions);
    ONDOL_CHECK(draw.positions.ndim() == 2 && draw.positions.size(0) == samples, "[", op, "] positions have shape ",
                draw.positions.shape(), " for ", samples, " samples");
    check_range_on_host(op, "position", draw.positions, draw.length);
    row_count = draw.positions.size(1);
  }
  ONDOL_CHECK(samples * row_count == rows, "[", op, "] ", samples, " samples of ", row_count, " rows for ", rows,
              " rows");
  for (const Tensor* out : {&draw.tokens, &draw.replaced}) {
    check_dtype(op, "tokens", *out, DType::i32, hidden);
    check_contiguous(op, "tokens", *out);
    ONDOL_CHECK(out->numel() == places, "[", op, "] places for ", out->numel(), " drawn tokens, ", places, " needed");
  }
}

}  // namespace

LinearCrossEntropyResult linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                              const LinearCrossEntropyOptions& options) {
  constexpr const char* op = "linear_cross_entropy";
  const ChunkedProjection projection(op, hidden, weight, labels, options.projection);
  const Device device = hidden.device();
  check_smoothing(op, options.scale.label_smoothing);
  const float* factor = factor_of(op, options.scale, hidden);
  const CountingRows& counting = projection.counting();
  const int32_t ignore_index = options.projection.ignore_index;
  if (options.draw != nullptr) check_draw(op, *options.draw, hidden, projection.all_rows());
  const Tensor losses = Tensor::empty({projection.rows()}, DType::f32, device);
  const Tensor lse = Tensor::empty({projection.rows()}, DType::f32, device);
  const bool capped = options.softcap > 0.0f;
  const Tensor scores_buffer =
      capped ? Tensor::empty({projection.chunk_rows(), projection.vocab_size()}, DType::f32, device) : Tensor();

  const auto turn = [&](const Tensor& logits, int64_t begin) {
    const int64_t count = logits.size(0);
    const Tensor labels_chunk = counting.labels.narrow(0, begin, count), lse_chunk = lse.narrow(0, begin, count);
    Tensor scores;  // logits / softcap, kept for the backward
    if (capped) {
      run_unary_in_place(logits, UnaryKind::scale, 1.0f / options.softcap);
      scores = scores_buffer.narrow(0, 0, count);
      scores.copy_from(logits);
      run_unary_in_place(logits, UnaryKind::tanh, 0.0f);
      run_unary_in_place(logits, UnaryKind::scale, options.softcap);
    }
    if (options.draw != nullptr) draw_tokens(*options.draw, logits, labels_chunk, begin, counting.kept, ignore_index);
    run_cross_entropy(logits, labels_chunk, ignore_index, options.scale.label_smoothing, losses.narrow(0, begin, count),
                      lse_chunk);
    if (!options.projection.gradients) return;
    run_cross_entropy_backward(logits, labels_chunk, ignore_index, lse_chunk, options.scale, factor, logits);
    if (!capped) return;
    // d softcap tanh(z / softcap) / dz = tanh'(z / softcap)
    run_kernel(&KernelTable::unary_backward, device, DType::f32,
               UnaryBackwardArgs{logits.raw(), scores.raw(), logits.raw(), logits.numel(), UnaryKind::tanh, 0.0f});
  };
  LinearCrossEntropyResult result{projection.run(turn), {}};
  result.loss = scaled_sum(losses, options.scale);
  return result;
}

}  // namespace ondol::ops
