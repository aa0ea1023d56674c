#include <ondol/ops/loss.h>

#include <algorithm>

#include <ondol/ops/matmul.h>
#include <ondol/ops/reduce.h>

#include "backend/backend.h"
#include "ops/checks.h"
#include "ops/index_checks.h"
#include "ops/output_rows.h"

namespace ondol::ops {

namespace {

/// labels, contiguous, checked against logits (rows, V).
Tensor check_labels(const char* op, const Tensor& labels, const Tensor& like, int64_t rows, int64_t vocab_size,
                    int32_t ignore_index) {
  check_dtype(op, "labels", labels, DType::i32, like);
  ONDOL_CHECK(labels.numel() == rows, "[", op, "] labels have shape ", labels.shape(), " for ", rows, " rows");
  const Tensor places = labels.contiguous();
  check_range_on_host(op, "label", places, vocab_size, ignore_index);
  return places;
}

void run_cross_entropy(const Tensor& logits, const Tensor& labels, int32_t ignore_index, const Tensor& loss,
                       const Tensor& lse) {
  const int64_t cols = logits.size(-1);
  run_kernel(&KernelTable::cross_entropy, logits.device(), logits.dtype(),
             CrossEntropyArgs{logits.raw(), lse.numel(), cols, cols, labels.data<int32_t>(), ignore_index,
                              loss.data<float>(), lse.data<float>()});
}

void run_cross_entropy_backward(const Tensor& logits, const Tensor& labels, int32_t ignore_index, const Tensor& lse,
                                float scale, const float* grad_scale, const Tensor& grad) {
  const int64_t cols = logits.size(-1);
  run_kernel(&KernelTable::cross_entropy_backward, logits.device(), logits.dtype(),
             CrossEntropyBackwardArgs{logits.raw(), lse.numel(), cols, cols, labels.data<int32_t>(), ignore_index,
                                      lse.data<float>(), scale, grad_scale, grad.raw(), cols});
}

void run_unary_in_place(const Tensor& x, UnaryKind kind, float parameter) {
  run_kernel(&KernelTable::unary, x.device(), x.dtype(), UnaryArgs{x.raw(), x.raw(), x.numel(), kind, parameter});
}

}  // namespace

CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& labels, int32_t ignore_index) {
  constexpr const char* op = "cross_entropy";
  check_data(op, "logits", logits);
  const int64_t cols = last_size(op, "logits", logits);
  const int64_t rows = leading_size(logits.shape());
  ONDOL_CHECK(cols > 0 || rows == 0, "[", op, "] logits have shape ", logits.shape());
  const Tensor places = check_labels(op, labels, logits, rows, cols, ignore_index);
  CrossEntropyResult result{Tensor::empty({rows}, DType::f32, logits.device()),
                            Tensor::empty({rows}, DType::f32, logits.device())};
  if (rows > 0) run_cross_entropy(logits.contiguous(), places, ignore_index, result.loss, result.lse);
  return result;
}

Tensor cross_entropy_backward(const Tensor& logits, const Tensor& labels, const Tensor& lse, float scale,
                              const Tensor& grad_scale, int32_t ignore_index) {
  constexpr const char* op = "cross_entropy_backward";
  check_data(op, "logits", logits);
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
  check_data(op, "hidden", hidden);
  check_like(op, "weight", weight, "hidden", hidden);
  const int64_t hidden_size = last_size(op, "hidden", hidden);
  ONDOL_CHECK(weight.ndim() == 2 && weight.size(1) == hidden_size && weight.size(0) > 0, "[", op, "] weight has shape ",
              weight.shape(), ", hidden ", hidden.shape(), ": last dimensions differ");
  const int64_t vocab_size = weight.size(0), all_rows = leading_size(hidden.shape());
  if (options.bias.defined()) {
    check_like(op, "bias", options.bias, "hidden", hidden);
    check_shape(op, "bias", options.bias, {vocab_size});
  }
  const Device device = hidden.device();
  const float* factor = nullptr;
  if (options.scale.factor.defined()) {
    check_dtype(op, "scale", options.scale.factor, DType::f32, hidden);
    ONDOL_CHECK(options.scale.factor.numel() == 1, "[", op, "] scale has shape ", options.scale.factor.shape(),
                ": one element is needed");
    factor = options.scale.factor.data<float>();
  }
  const Tensor all_labels = check_labels(op, labels, hidden, all_rows, vocab_size, options.ignore_index);
  const CountingRows counting = find_counting_rows(all_labels, options.ignore_index);
  const Tensor counting_hidden = counting.gather(hidden.contiguous().reshape({all_rows, hidden_size}));
  const int64_t rows = counting.count();
  const TokenDraw* draw = options.draw;
  if (draw != nullptr) check_draw(op, *draw, hidden, all_rows);

  LinearCrossEntropyResult result;
  Tensor grad_rows;  // of counting_hidden
  if (options.gradients) {
    if (options.weight_gradient) {
      result.grad_weight = options.grad_weight.defined() ? options.grad_weight
                                                         : Tensor::empty({vocab_size, hidden_size}, DType::f32, device);
      check_shape(op, "grad_weight", result.grad_weight, weight.shape());
      if (rows == 0 && !options.accumulate_weight) result.grad_weight.zero();
    }
    if (options.bias.defined()) result.grad_bias = Tensor::zeros({vocab_size}, DType::f32, device);
    grad_rows = Tensor::empty({counting.rows_to_spread(), hidden_size}, hidden.dtype(), device);
  }
  const Tensor losses = Tensor::empty({rows}, DType::f32, device), lse = Tensor::empty({rows}, DType::f32, device);
  const int64_t chunk =
      options.chunk_rows > 0 ? std::min(options.chunk_rows, rows) : default_chunk_rows(rows, vocab_size, device);
  const bool narrow = hidden.dtype() != DType::f32;
  const Tensor logits_buffer = Tensor::empty({chunk, vocab_size}, DType::f32, device);
  const Tensor scores_buffer =
      options.softcap > 0.0f ? Tensor::empty({chunk, vocab_size}, DType::f32, device) : Tensor();
  const Tensor narrow_buffer =
      narrow && options.gradients ? Tensor::empty({chunk, vocab_size}, hidden.dtype(), device) : Tensor();
  const Tensor bias = options.bias.defined() ? options.bias.to(DType::f32) : Tensor();

  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const Tensor hidden_chunk = counting_hidden.narrow(0, begin, count);
    const Tensor labels_chunk = counting.labels.narrow(0, begin, count);
    const Tensor loss_chunk = losses.narrow(0, begin, count), lse_chunk = lse.narrow(0, begin, count);
    const Tensor logits = logits_buffer.narrow(0, 0, count);
    matmul_into(logits, hidden_chunk, weight.transpose(0, 1), false);
    if (bias.defined()) accumulate(logits, bias.expand(logits.shape()));
    Tensor scores;  // logits / softcap, kept for the backward
    if (options.softcap > 0.0f) {
      run_unary_in_place(logits, UnaryKind::scale, 1.0f / options.softcap);
      scores = scores_buffer.narrow(0, 0, count);
      scores.copy_from(logits);
      run_unary_in_place(logits, UnaryKind::tanh, 0.0f);
      run_unary_in_place(logits, UnaryKind::scale, options.softcap);
    }
    if (draw != nullptr) draw_tokens(*draw, logits, labels_chunk, begin, counting.kept, options.ignore_index);
    run_cross_entropy(logits, labels_chunk, options.ignore_index, loss_chunk, lse_chunk);
    if (!options.gradients) continue;
    run_cross_entropy_backward(logits, labels_chunk, options.ignore_index, lse_chunk, options.scale.value, factor,
                               logits);
    if (scores.defined()) {  // d softcap tanh(z / softcap) / dz = tanh'(z / softcap)
      run_kernel(&KernelTable::unary_backward, device, DType::f32,
                 UnaryBackwardArgs{logits.raw(), scores.raw(), logits.raw(), logits.numel(), UnaryKind::tanh, 0.0f});
    }
    if (bias.defined()) sum_rows_into(result.grad_bias, logits, true);
    Tensor grad_logits = logits;
    if (narrow) {
      grad_logits = narrow_buffer.narrow(0, 0, count);
      grad_logits.copy_from(logits);
    }
    matmul_into(grad_rows.narrow(0, begin, count), grad_logits, weight, false);
    if (!options.weight_gradient) continue;
    linear_backward_weight_into(result.grad_weight, grad_logits, hidden_chunk, begin > 0 || options.accumulate_weight);
  }
  result.loss = scale(sum(losses, 0), options.scale.value);
  if (factor != nullptr) result.loss = mul(result.loss, options.scale.factor.reshape(result.loss.shape()));
  if (options.gradients) result.grad_hidden = counting.spread(grad_rows).reshape(hidden.shape());
  return result;
}

}  // namespace ondol::ops
