// Losses of a student's output projection beside a teacher's (Hinton et al. 2015), without holding the logits whole.
//
//   ops::TeacherScores teacher{.hidden = teacher_hidden, .weight = teacher_weight};
//   auto r = ops::linear_distillation(hidden, weight, labels, teacher, {.temperature = 2.0f, .gradients = true});
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

struct LinearDistillationOptions {
  float temperature = 1.0f;
  float label_mix = 0.0f;  // [0, 1]
  LossScale soft_scale, hard_scale;
  int32_t ignore_index = kIgnoreIndex;
  bool gradients = false;
  bool weight_gradient = true;     // false: with gradients, but for grad_weight
  Tensor grad_weight;              // (V, C) f32: where the gradient of weight goes; undefined: a new tensor
  bool accumulate_weight = false;  // add to grad_weight instead of overwriting it
  Tensor bias;                     // (V), optional, dtype of hidden
  int64_t chunk_rows = 0;          // rows whose logits exist at a time; 0 chooses
};

struct LinearDistillationResult {
  Tensor soft, hard;   // one element each, f32
  Tensor grad_hidden;  // of soft + hard, with gradients: dtype of hidden
  Tensor grad_weight;  // (V, C) f32, if wanted: options.grad_weight when that was given
  Tensor grad_bias;    // (V) f32 when there is a bias
};

/// hidden (.., C), weight (V, C), labels (..); the teacher's tensors have as many rows as hidden, or, where labels lie
/// on the host, as many as count.
LinearDistillationResult linear_distillation(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                             const TeacherScores& teacher, const LinearDistillationOptions& options);

}  // namespace ondol::ops
