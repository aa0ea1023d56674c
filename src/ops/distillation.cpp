#include <ondol/ops/distillation.h>

#include <algorithm>

#include <ondol/ops/elementwise.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/reduce.h>

#include "backend/backend.h"
#include "ops/checks.h"
#include "ops/index_checks.h"
#include "ops/output_rows.h"

namespace ondol::ops {

namespace {

constexpr const char* kOp = "linear_distillation";

/// The teacher's side, row by row as the student's rows that count.
class Teacher {
 public:
  Teacher(const TeacherScores& scores, const Tensor& like, int64_t all_rows, int64_t vocab_size,
          const CountingRows& counting)
      : scores_(scores), vocab_size_(vocab_size) {
    const auto rows_of = [&](const char* name, const Tensor& x, int64_t cols) {
      const Tensor flat = x.contiguous().reshape({cols > 0 ? x.numel() / cols : 0, cols});
      if (flat.size(0) == counting.count()) return flat;
      ONDOL_CHECK(flat.size(0) == all_rows, "[", kOp, "] ", name, " has shape ", x.shape(), " for ", all_rows, " rows");
      return counting.gather(flat);
    };
    if (scores.hidden.defined()) {
      check_data(kOp, "teacher's hidden", scores.hidden);
      check_like(kOp, "teacher's weight", scores.weight, "hidden", scores.hidden);
      const int64_t width = last_size(kOp, "teacher's hidden", scores.hidden);
      check_shape(kOp, "teacher's weight", scores.weight, {vocab_size, width});
      if (scores.bias.defined()) check_shape(kOp, "teacher's bias", scores.bias, {vocab_size});
      scores_.hidden = rows_of("teacher's hidden", scores.hidden, width);
      if (scores.bias.defined()) scores_.bias = scores.bias.to(DType::f32);
      return;
    }
    check_dtype(kOp, "teacher's tokens", scores.tokens, DType::i32, like);
    check_dtype(kOp, "teacher's probabilities", scores.probabilities, DType::f32, like);
    check_dtype(kOp, "teacher's rest", scores.rest, DType::f32, like);
    check_shape(kOp, "teacher's probabilities", scores.probabilities, scores.tokens.shape());
    const int64_t kept = last_size(kOp, "teacher's tokens", scores.tokens);
    const Tensor rest = scores.rest.contiguous().reshape({scores.rest.numel(), 1});
    const bool whole = scores.rest.numel() == all_rows && scores.tokens.numel() == all_rows * kept;
    ONDOL_CHECK(whole, "[", kOp, "] teacher's tokens have shape ", scores.tokens.shape(), ", rest ",
                scores.rest.shape(), " for ", all_rows, " rows");
    scores_.probabilities = rows_of("teacher's probabilities", scores.probabilities, kept);
    scores_.rest = counting.gather(rest);
    const Tensor tokens = scores.tokens.contiguous();
    check_range_on_host(kOp, "teacher's token", tokens, vocab_size);
    scores_.tokens = counting.gather_indices(tokens.reshape({all_rows, kept}));
  }

  /// The rest of each row of a chunk, null when the rows are logits.
  const float* rest(int64_t begin) const {
    return scores_.hidden.defined() ? nullptr : scores_.rest.data<float>() + begin;
  }

  /// Logits or probabilities of rows [begin, begin + target.size(0)), f32.
  void fill(const Tensor& target, int64_t begin) const {
    const int64_t count = target.size(0);
    if (scores_.hidden.defined()) {
      matmul_into(target, scores_.hidden.narrow(0, begin, count), scores_.weight.transpose(0, 1), false);
      if (scores_.bias.defined()) accumulate(target, scores_.bias.expand(target.shape()));
      return;
    }
    target.zero();
    scatter_add(target, 1, scores_.tokens.narrow(0, begin, count), scores_.probabilities.narrow(0, begin, count));
  }

 private:
  TeacherScores scores_;
  int64_t vocab_size_;
};

const float* factor_of(const LossScale& scale, const Tensor& like) {
  if (!scale.factor.defined()) return nullptr;
  check_dtype(kOp, "scale", scale.factor, DType::f32, like);
  ONDOL_CHECK(scale.factor.numel() == 1, "[", kOp, "] scale has shape ", scale.factor.shape(),
              ": one element is needed");
  return scale.factor.data<float>();
}

Tensor scaled_sum(const Tensor& losses, const LossScale& factor) {
  const Tensor total = scale(sum(losses, 0), factor.value);
  return factor.factor.defined() ? mul(total, factor.factor.reshape(total.shape())) : total;
}

}  // namespace

LinearDistillationResult linear_distillation(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                             const TeacherScores& teacher, const LinearDistillationOptions& options) {
  check_data(kOp, "hidden", hidden);
  check_like(kOp, "weight", weight, "hidden", hidden);
  const int64_t hidden_size = last_size(kOp, "hidden", hidden), all_rows = leading_size(hidden.shape());
  ONDOL_CHECK(weight.ndim() == 2 && weight.size(1) == hidden_size && weight.size(0) > 0, "[", kOp,
              "] weight has shape ", weight.shape(), ", hidden ", hidden.shape(), ": last dimensions differ");
  ONDOL_CHECK(options.temperature > 0.0f && options.label_mix >= 0.0f && options.label_mix <= 1.0f, "[", kOp,
              "] temperature ", options.temperature, ", label mix ", options.label_mix);
  const int64_t vocab_size = weight.size(0);
  if (options.bias.defined()) {
    check_like(kOp, "bias", options.bias, "hidden", hidden);
    check_shape(kOp, "bias", options.bias, {vocab_size});
  }
  check_dtype(kOp, "labels", labels, DType::i32, hidden);
  ONDOL_CHECK(labels.numel() == all_rows, "[", kOp, "] labels have shape ", labels.shape(), " for ", all_rows, " rows");
  const Tensor all_labels = labels.contiguous();
  check_range_on_host(kOp, "label", all_labels, vocab_size, options.ignore_index);
  const Device device = hidden.device();
  const float* soft_factor = factor_of(options.soft_scale, hidden);
  const float* hard_factor = factor_of(options.hard_scale, hidden);

  const CountingRows counting = find_counting_rows(all_labels, options.ignore_index);
  const Tensor counting_hidden = counting.gather(hidden.contiguous().reshape({all_rows, hidden_size}));
  const int64_t rows = counting.count();
  const Teacher teacher_rows(teacher, hidden, all_rows, vocab_size, counting);

  LinearDistillationResult result;
  Tensor grad_rows;  // of counting_hidden
  if (options.gradients) {
    if (options.weight_gradient) {
      result.grad_weight = options.grad_weight.defined() ? options.grad_weight
                                                         : Tensor::empty({vocab_size, hidden_size}, DType::f32, device);
      check_shape(kOp, "grad_weight", result.grad_weight, weight.shape());
      if (rows == 0 && !options.accumulate_weight) result.grad_weight.zero();
    }
    if (options.bias.defined()) result.grad_bias = Tensor::zeros({vocab_size}, DType::f32, device);
    grad_rows = Tensor::empty({counting.rows_to_spread(), hidden_size}, hidden.dtype(), device);
  }
  const Tensor soft = Tensor::empty({rows}, DType::f32, device), hard = Tensor::empty({rows}, DType::f32, device);
  const int64_t chunk =
      options.chunk_rows > 0 ? std::min(options.chunk_rows, rows) : default_chunk_rows(rows, vocab_size, device);
  const Tensor logits_buffer = Tensor::empty({chunk, vocab_size}, DType::f32, device);
  const Tensor teacher_buffer = Tensor::empty({chunk, vocab_size}, DType::f32, device);
  const bool narrow = hidden.dtype() != DType::f32;
  const Tensor narrow_buffer =
      narrow && options.gradients ? Tensor::empty({chunk, vocab_size}, hidden.dtype(), device) : Tensor();
  const Tensor bias = options.bias.defined() ? options.bias.to(DType::f32) : Tensor();

  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t count = std::min(chunk, rows - begin);
    const Tensor hidden_chunk = counting_hidden.narrow(0, begin, count);
    const Tensor logits = logits_buffer.narrow(0, 0, count), scores = teacher_buffer.narrow(0, 0, count);
    matmul_into(logits, hidden_chunk, weight.transpose(0, 1), false);
    if (bias.defined()) accumulate(logits, bias.expand(logits.shape()));
    teacher_rows.fill(scores, begin);
    run_kernel(&KernelTable::distillation, device, DType::f32,
               DistillationArgs{scores.data<float>(), logits.data<float>(), count, vocab_size,
                                counting.labels.data<int32_t>() + begin, options.ignore_index, teacher_rows.rest(begin),
                                options.temperature, options.label_mix, options.soft_scale.value,
                                options.hard_scale.value, soft_factor, hard_factor, options.gradients,
                                soft.data<float>() + begin, hard.data<float>() + begin});
    if (!options.gradients) continue;
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
  result.soft = scaled_sum(soft, options.soft_scale);
  result.hard = scaled_sum(hard, options.hard_scale);
  if (options.gradients) result.grad_hidden = counting.spread(grad_rows).reshape(hidden.shape());
  return result;
}

}  // namespace ondol::ops
