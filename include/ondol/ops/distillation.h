// Losses of a student's output projection beside a teacher's (Hinton et al. 2015), without holding the logits whole.
//
//   ops::TeacherScores teacher{.hidden = teacher_hidden, .weight = teacher_weight};
//   auto r = ops::linear_distillation(hidden, weight, labels, teacher,
//                                     {.terms = {.temperature = 2.0f}, .projection = {.gradients = true}});
//   double loss = r.soft.item() + r.hard.item();
//
// With s and t the logits of student and teacher, p = softmax(t / T), q = softmax(s / T), over the rows that count:
//   soft = soft_scale sum T^2 KL(p || q)
//   hard = hard_scale sum (1 - mix) CE(label, s) + mix CE(argmax t, s)
// The second is the expected cross-entropy when the teacher's most likely token takes the label's place with likelihood
// mix; with 1/2 it is the hard-label distillation of Touvron et al. 2021. T^2 keeps the size of the gradients.
#pragma once

#include <ondol/ops/loss.h>

namespace ondol::ops {

/// Either hidden states and output projection of the teacher, or what was kept of its distribution at the temperature:
/// the likelihoods of K tokens, and of all others together (as one class).
struct TeacherScores {
  Tensor hidden;         // (.., D)
  Tensor weight;         // (V, D), dtype of hidden
  Tensor bias;           // (V), optional, dtype of hidden
  Tensor tokens;         // (.., K) i32, all different in a row
  Tensor probabilities;  // (.., K) f32
  Tensor rest;           // (..) f32
};

struct DistillationTerms {
  float temperature = 1.0f;
  float label_mix = 0.0f;  // [0, 1]
  LossScale soft_scale, hard_scale;
};

struct LinearDistillationOptions {
  DistillationTerms terms;
  OutputProjectionOptions projection;
};

struct LinearDistillationResult : OutputProjectionGradients {  // of soft + hard
  Tensor soft, hard;                                           // one element each, f32
};

/// hidden (.., C), weight (V, C), labels (..); the teacher's tensors have as many rows as hidden, or, where labels lie
/// on the host, as many as count.
LinearDistillationResult linear_distillation(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                             const TeacherScores& teacher, const LinearDistillationOptions& options);

struct DistillationResult {
  Tensor soft, hard;   // one element each, f32
  Tensor grad_logits;  // of soft + hard, with gradients: as the logits
};

/// The same for logits (.., V) that are there, from a projection of another kind.
DistillationResult distillation(const Tensor& logits, const Tensor& labels, const TeacherScores& teacher,
                                const DistillationTerms& terms, bool gradients = false,
                                int32_t ignore_index = kIgnoreIndex);

}  // namespace ondol::ops
