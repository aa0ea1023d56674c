// distillation: losses of a student's logits beside a teacher's, and their gradient in place.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

/// Sum of exp((in[i] - shift) * factor) over the elements for which counts(i, lanes) is true.
template <class Counts>
float sum_exp(const float* in, int64_t count, float shift, float factor, const Counts& counts) {
  Floats sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  accumulate_row(count, sums, [&](Floats sum, int64_t i, auto n) {
    const Floats value = exp((load_lanes(in + i, n) - splat(shift)) * splat(factor));
    return sum + keep_lanes(counts(value, i, n), splat(0.0f), n);
  });
  return sum_of_four(sums);
}

float sum_exp(const float* in, int64_t count, float shift, float factor) {
  return sum_exp(in, count, shift, factor, [](Floats value, int64_t, auto) { return value; });
}

int64_t first_equal(const float* in, int64_t count, float wanted) {
  for (int64_t i = 0; i < count; ++i) {
    if (in[i] == wanted) return i;
  }
  return 0;  // NaN: the loss shows it
}

class Row {
 public:
  Row(const DistillationArgs& args, int64_t row)
      : args_(args),
        row_(row),
        teacher_(args.teacher + row * args.cols),
        student_(args.student + row * args.cols),
        inverse_temperature_(1.0f / args.temperature) {}

  void run(float soft_scale, float hard_scale) {
    const int64_t cols = args_.cols;
    const int32_t label = args_.labels[row_];
    if (label == args_.ignore_index) {
      args_.soft[row_] = args_.hard[row_] = 0.0f;
      if (args_.gradients) {
        for_each_vector(cols, [&](int64_t i, auto n) { store_lanes(student_ + i, splat(0.0f), n); });
      }
      return;
    }
    const bool probabilities = args_.rest != nullptr;
    const float teacher_max = row_max(teacher_, cols);
    const int64_t top = args_.label_mix > 0.0f ? first_equal(teacher_, cols, teacher_max) : label;
    const float label_share = 1.0f - args_.label_mix, top_share = args_.label_mix;

    student_max_ = row_max(student_, cols);
    student_sum_ = sum_exp(student_, cols, student_max_, inverse_temperature_);
    const float plain_sum = args_.temperature == 1.0f ? student_sum_ : sum_exp(student_, cols, student_max_, 1.0f);
    args_.hard[row_] = student_max_ + scalar_log(plain_sum) - label_share * student_[label] - top_share * student_[top];

    const Floats plain_factor = splat(hard_scale / plain_sum);
    soft_scale_ = soft_scale * args_.temperature;
    const auto hard_gradient = [&](Floats logits) { return exp(logits - splat(student_max_)) * plain_factor; };
    const float soft = probabilities ? from_probabilities(hard_gradient) : from_logits(teacher_max, hard_gradient);
    args_.soft[row_] = args_.temperature * args_.temperature * soft;
    if (!args_.gradients) return;
    student_[label] -= hard_scale * label_share;
    student_[top] -= hard_scale * top_share;
  }

 private:
  /// Sums p (log p - log q) and writes the gradients; element(i, logits / T, lanes) gives p, log p and q by reference.
  template <class Element, class HardGradient>
  float sum_terms(const Element& element, const HardGradient& hard_gradient) {
    const float log_student_sum = scalar_log(student_sum_);
    Floats sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
    accumulate_row(args_.cols, sums, [&](Floats sum, int64_t i, auto n) {
      const Floats logits = load_lanes(student_ + i, n);
      const Floats scaled = (logits - splat(student_max_)) * splat(inverse_temperature_);
      const Floats q = exp(scaled) * splat(1.0f / student_sum_);
      Floats p, log_p, target;
      element(i, q, n, p, log_p, target);
      if (args_.gradients) {
        store_lanes(student_ + i, fma(q - target, splat(soft_scale_), hard_gradient(logits)), n);
      }
      const Floats term = p * (log_p - (scaled - splat(log_student_sum)));
      return sum + keep_lanes(select(p > splat(0.0f), term, splat(0.0f)), splat(0.0f), n);
    });
    return sum_of_four(sums);
  }

  template <class HardGradient>
  float from_logits(float teacher_max, const HardGradient& hard_gradient) {
    const float teacher_sum = sum_exp(teacher_, args_.cols, teacher_max, inverse_temperature_);
    const Floats factor = splat(1.0f / teacher_sum), log_sum = splat(scalar_log(teacher_sum));
    return sum_terms(
        [&](int64_t i, Floats, auto n, Floats& p, Floats& log_p, Floats& target) {
          const Floats scaled = (load_lanes(teacher_ + i, n) - splat(teacher_max)) * splat(inverse_temperature_);
          p = target = exp(scaled) * factor;
          log_p = scaled - log_sum;
        },
        hard_gradient);
  }

  template <class HardGradient>
  float from_probabilities(const HardGradient& hard_gradient) {
    const Floats zero = splat(0.0f);
    const float others = sum_exp(
        student_, args_.cols, student_max_, inverse_temperature_,
        [&](Floats value, int64_t i, auto n) { return select(load_lanes(teacher_ + i, n) > zero, zero, value); });
    const float rest = args_.rest[row_];
    const bool shared = rest > 0.0f && others > 0.0f;
    const Floats tail_factor = splat(shared ? rest * student_sum_ / others : 0.0f);
    const float soft = sum_terms(
        [&](int64_t i, Floats q, auto n, Floats& p, Floats& log_p, Floats& target) {
          p = load_lanes(teacher_ + i, n);
          log_p = log(p);
          target = select(p > zero, p, q * tail_factor);
        },
        hard_gradient);
    return shared ? soft + rest * (scalar_log(rest) - scalar_log(others / student_sum_)) : soft;
  }

  const DistillationArgs& args_;
  const int64_t row_;
  const float* teacher_;
  float* student_;
  const float inverse_temperature_;
  float student_max_ = 0.0f, student_sum_ = 0.0f, soft_scale_ = 0.0f;
};

void distillation(const DistillationArgs& args, Stream) {
  const float soft_scale = args.soft_scale * (args.soft_factor == nullptr ? 1.0f : *args.soft_factor);
  const float hard_scale = args.hard_scale * (args.hard_factor == nullptr ? 1.0f : *args.hard_factor);
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) Row(args, row).run(soft_scale, hard_scale);
  });
}

}  // namespace

void add_distillation_rows(KernelTable& table) { table.distillation.set(DType::f32, distillation); }

}  // namespace ondol::cpu::ONDOL_ISA
