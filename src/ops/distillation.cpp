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

/// The teacher's side, row by row as the student's rows that count.
class Teacher {
 public:
  Teacher(const char* op, const TeacherScores& scores, const Tensor& like, int64_t all_rows, int64_t vocab_size,
          const CountingRows& counting)
      : scores_(scores) {
    const auto rows_of = [&](const char* name, const Tensor& x, int64_t cols) {
      const Tensor flat = x.contiguous().reshape({cols > 0 ? x.numel() / cols : 0, cols});
      if (flat.size(0) == counting.count()) return flat;
      ONDOL_CHECK(flat.size(0) == all_rows, "[", op, "] ", name, " has shape ", x.shape(), " for ", all_rows, " rows");
      return counting.gather(flat);
    };
    if (scores.hidden.defined()) {
      check_data(op, "teacher's hidden", scores.hidden);
      check_like(op, "teacher's weight", scores.weight, "hidden", scores.hidden);
      const int64_t width = last_size(op, "teacher's hidden", scores.hidden);
      check_shape(op, "teacher's weight", scores.weight, {vocab_size, width});
      if (scores.bias.defined()) check_shape(op, "teacher's bias", scores.bias, {vocab_size});
      scores_.hidden = rows_of("teacher's hidden", scores.hidden, width);
      if (scores.bias.defined()) scores_.bias = scores.bias.to(DType::f32);
      return;
    }
    check_dtype(op, "teacher's tokens", scores.tokens, DType::i32, like);
    check_dtype(op, "teacher's probabilities", scores.probabilities, DType::f32, like);
    check_dtype(op, "teacher's rest", scores.rest, DType::f32, like);
    check_shape(op, "teacher's probabilities", scores.probabilities, scores.tokens.shape());
    const int64_t kept = last_size(op, "teacher's tokens", scores.tokens);
    const Tensor rest = scores.rest.contiguous().reshape({scores.rest.numel(), 1});
    const bool whole = scores.rest.numel() == all_rows && scores.tokens.numel() == all_rows * kept;
    ONDOL_CHECK(whole, "[", op, "] teacher's tokens have shape ", scores.tokens.shape(), ", rest ", scores.rest.shape(),
                " for ", all_rows, " rows");
    scores_.probabilities = rows_of("teacher's probabilities", scores.probabilities, kept);
    scores_.rest = counting.gather(rest);
    const Tensor tokens = scores.tokens.contiguous();
    check_range_on_host(op, "teacher's token", tokens, vocab_size);
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
};

/// Both losses, chunk by chunk of the rows that count.
class Losses {
 public:
  Losses(const char* op, const DistillationTerms& terms, const Teacher& teacher, const CountingRows& counting,
         const Tensor& like, int64_t vocab_size, int64_t chunk_rows, int32_t ignore_index, bool gradients)
      : terms_(terms), teacher_(teacher), labels_(counting.labels), ignore_index_(ignore_index), gradients_(gradients) {
    ONDOL_CHECK(terms.temperature > 0.0f && terms.label_mix >= 0.0f && terms.label_mix <= 1.0f, "[", op,
                "] temperature ", terms.temperature, ", label mix ", terms.label_mix);
    soft_factor_ = factor_of(op, terms.soft_scale, like);
    hard_factor_ = factor_of(op, terms.hard_scale, like);
    soft_ = Tensor::empty({counting.count()}, DType::f32, like.device());
    hard_ = Tensor::empty({counting.count()}, DType::f32, like.device());
    scores_ = Tensor::empty({chunk_rows, vocab_size}, DType::f32, like.device());
  }

  /// Takes up rows [begin, begin + logits.size(0)); with gradients their gradient takes the place of the logits (f32).
  void add(const Tensor& logits, int64_t begin) const {
    const int64_t count = logits.size(0);
    const Tensor scores = scores_.narrow(0, 0, count);
    teacher_.fill(scores, begin);
    run_kernel(
        &KernelTable::distillation, logits.device(), DType::f32,
        DistillationArgs{scores.data<float>(), logits.data<float>(), count, logits.size(1),
                         labels_.data<int32_t>() + begin, ignore_index_, teacher_.rest(begin), terms_.temperature,
                         terms_.label_mix, terms_.soft_scale.value, terms_.hard_scale.value, soft_factor_, hard_factor_,
                         gradients_, soft_.data<float>() + begin, hard_.data<float>() + begin});
  }

  Tensor soft() const { return scaled_sum(soft_, terms_.soft_scale); }
  Tensor hard() const { return scaled_sum(hard_, terms_.hard_scale); }

 private:
  DistillationTerms terms_;
  const Teacher& teacher_;
  Tensor labels_;
  int32_t ignore_index_;
  bool gradients_;
  const float *soft_factor_, *hard_factor_;
  Tensor soft_, hard_;  // (rows)
  Tensor scores_;       // of the teacher, for a chunk
};

}  // namespace

LinearDistillationResult linear_distillation(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                             const TeacherScores& teacher, const LinearDistillationOptions& options) {
  constexpr const char* op = "linear_distillation";
  const ChunkedProjection projection(op, hidden, weight, labels, options.projection);
  const int64_t vocab_size = projection.vocab_size();
  const Teacher teacher_rows(op, teacher, hidden, projection.all_rows(), vocab_size, projection.counting());
  const Losses losses(op, options.terms, teacher_rows, projection.counting(), hidden, vocab_size,
                      projection.chunk_rows(), options.projection.ignore_index, options.projection.gradients);
  LinearDistillationResult result{
      projection.run([&](const Tensor& logits, int64_t begin) { losses.add(logits, begin); }), {}, {}};
  result.soft = losses.soft();
  result.hard = losses.hard();
  return result;
}

DistillationResult distillation(const Tensor& logits, const Tensor& labels, const TeacherScores& teacher,
                                const DistillationTerms& terms, bool gradients, int32_t ignore_index) {
  constexpr const char* op = "distillation";
  check_data(op, "logits", logits);
  const int64_t vocab_size = last_size(op, "logits", logits), all_rows = leading_size(logits.shape());
  const CountingRows counting =
      find_counting_rows(check_labels(op, labels, logits, all_rows, vocab_size, ignore_index), ignore_index);
  const int64_t rows = counting.count(), chunk = default_chunk_rows(rows, vocab_size, logits.device());
  const Teacher teacher_rows(op, teacher, logits, all_rows, vocab_size, counting);
  const Losses losses(op, terms, teacher_rows, counting, logits, vocab_size, chunk, ignore_index, gradients);
  // A copy in f32, whose rows the gradients take.
  const Tensor flat = Tensor::empty({counting.rows_to_spread(), vocab_size}, DType::f32, logits.device());
  flat.narrow(0, 0, rows).copy_from(counting.gather(logits.contiguous().reshape({all_rows, vocab_size})));
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    losses.add(flat.narrow(0, begin, std::min(chunk, rows - begin)), begin);
  }
  DistillationResult result{losses.soft(), losses.hard(), {}};
  if (gradients) result.grad_logits = counting.spread(flat).to(logits.dtype()).reshape(logits.shape());
  return result;
}

}  // namespace ondol::ops
