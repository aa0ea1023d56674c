// distillation: losses of a student's logits beside a teacher's, and their gradient in place.
//
// Formula: with p = softmax(teacher / T), q = softmax(student / T):
//            soft[r] = T^2 sum p (log p - log q)
//            hard[r] = log sum exp(student) - (1 - mix) student[label] - mix student[argmax teacher]
//            student := soft_scale T (q - p) + hard_scale (softmax(student) - (1 - mix) one_hot - mix one_hot(argmax))
//          With `rest` the teacher's row holds probabilities p of some tokens, 0 for all others, which are one class.
// Layout: (rows, cols), contiguous, f32.
// Mapping: one block for each row: maxima; sums of exponentials; losses and gradient.
// Accumulation: f32. A label outside [0, cols) gives NaN.
// Tuning: kMaxThreads, untuned: not run on a GPU yet.
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kMaxThreads = 1024;

/// body(column, value of x, value of y) for every element of this thread, whole vectors at a time.
template <int kCount, class Body>
__device__ void for_each_pair(const float* x, const float* y, int64_t cols, const Body& body) {
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < cols;
       c += static_cast<int64_t>(blockDim.x) * kCount) {
    const Floats<kCount> a = load_floats<kCount>(x + c), b = load_floats<kCount>(y + c);
#pragma unroll
    for (int i = 0; i < kCount; ++i) body(c + i, a[i], b[i]);
  }
}

template <int kCount>
__global__ void distillation_kernel(DistillationArgs args) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  int32_t* scratch_index = shared.take<int32_t>(kReduceScratch);
  const int64_t row = blockIdx.x;
  const int64_t cols = args.cols;
  const float* teacher = args.teacher + row * cols;
  float* student = args.student + row * cols;
  const int32_t label = args.labels[row];
  if (label == args.ignore_index) {
    if (threadIdx.x == 0) args.soft[row] = args.hard[row] = 0.0f;
    if (!args.gradients) return;
    for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < cols;
         c += static_cast<int64_t>(blockDim.x) * kCount) {
      store_floats<kCount>(student + c, Floats<kCount>{});
    }
    return;
  }
  const bool probabilities = args.rest != nullptr;
  const float rest = probabilities ? args.rest[row] : 0.0f;
  const float inverse_temperature = 1.0f / args.temperature;

  float teacher_max = -INFINITY, student_max = -INFINITY;
  int32_t top = 0x7fffffff;
  for_each_pair<kCount>(teacher, student, cols, [&](int64_t c, float t, float s) {
    if (t > teacher_max) {
      teacher_max = t;
      top = static_cast<int32_t>(c);
    }
    student_max = Max{}(student_max, s);
  });
  const float own_max = teacher_max;
  teacher_max = block_max(teacher_max, scratch);
  student_max = block_max(student_max, scratch);
  const auto lower = [](int32_t a, int32_t b) { return a < b ? a : b; };
  top = block_reduce(own_max == teacher_max ? top : 0x7fffffff, 0x7fffffff, lower, scratch_index);

  float teacher_sum = 0.0f, student_sum = 0.0f, plain_sum = 0.0f, others = 0.0f;
  for_each_pair<kCount>(teacher, student, cols, [&](int64_t, float t, float s) {
    const float q = expf((s - student_max) * inverse_temperature);
    student_sum += q;
    plain_sum += expf(s - student_max);
    if (probabilities) {
      others += t > 0.0f ? 0.0f : q;
    } else {
      teacher_sum += expf((t - teacher_max) * inverse_temperature);
    }
  });
  student_sum = block_sum(student_sum, scratch);
  plain_sum = block_sum(plain_sum, scratch);
  if (probabilities) {
    others = block_sum(others, scratch);
  } else {
    teacher_sum = block_sum(teacher_sum, scratch);
  }

  const bool inside = label >= 0 && label < cols;
  const bool has_top = args.label_mix > 0.0f && top < cols;
  const float label_share = 1.0f - args.label_mix;
  const float label_logit = inside ? student[label] : NAN;
  const float top_logit = has_top ? student[top] : 0.0f;
  const bool shared_rest = rest > 0.0f && others > 0.0f;
  const float tail_factor = shared_rest ? rest * student_sum / others : 0.0f;
  const float log_student_sum = logf(student_sum);
  const float log_teacher_sum = probabilities ? 0.0f : logf(teacher_sum);
  float soft_scale = args.soft_scale * args.temperature * (args.soft_factor == nullptr ? 1.0f : *args.soft_factor);
  float hard_scale = args.hard_scale * (args.hard_factor == nullptr ? 1.0f : *args.hard_factor);
  if (!inside) hard_scale = NAN;
  block_barrier();  // all threads have read the label's logit

  float soft = 0.0f;
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < cols;
       c += static_cast<int64_t>(blockDim.x) * kCount) {
    const Floats<kCount> t = load_floats<kCount>(teacher + c), s = load_floats<kCount>(student + c);
    Floats<kCount> gradient;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float scaled = (s[i] - student_max) * inverse_temperature;
      const float q = expf(scaled) / student_sum;
      float p, log_p;
      if (probabilities) {
        p = t[i];
        log_p = logf(p);
      } else {
        const float teacher_scaled = (t[i] - teacher_max) * inverse_temperature;
        p = expf(teacher_scaled) / teacher_sum;
        log_p = teacher_scaled - log_teacher_sum;
      }
      if (p > 0.0f) soft += p * (log_p - (scaled - log_student_sum));
      const float target = probabilities && !(p > 0.0f) ? q * tail_factor : p;
      float hard = expf(s[i] - student_max) / plain_sum;
      if (c + i == label) hard -= label_share;
      if (has_top && c + i == top) hard -= args.label_mix;
      gradient[i] = soft_scale * (q - target) + hard_scale * hard;
    }
    if (args.gradients) store_floats<kCount>(student + c, gradient);
  }
  soft = block_sum(soft, scratch);
  if (threadIdx.x != 0) return;
  if (shared_rest) soft += rest * (logf(rest) - logf(others / student_sum));
  args.soft[row] = args.temperature * args.temperature * soft;
  args.hard[row] = student_max + logf(plain_sum) - label_share * label_logit - args.label_mix * top_logit;
}

void distillation(const DistillationArgs& args, Stream stream) {
  if (args.rows == 0) return;
  constexpr int kWide = kVector128<float>;
  const bool wide = args.cols % kWide == 0 && aligned(16, args.teacher, args.student);
  launch("distillation", wide ? distillation_kernel<kWide> : distillation_kernel<1>,
         blocks_for("distillation", args.rows, 1), row_threads(wide ? args.cols / kWide : args.cols, kMaxThreads),
         shared_bytes<float>(kReduceScratch) + shared_bytes<int32_t>(kReduceScratch), stream, args);
}

}  // namespace

void add_distillation_rows(KernelTable& table) { table.distillation.set(DType::f32, distillation); }

}  // namespace ondol::ONDOL_CUDA_SPACE
