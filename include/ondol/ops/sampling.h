// From logits to the next token, on the device of the logits.
//
//   Tensor next = ops::sample(logits, {.temperature = 0.8f, .top_p = 0.95f, .seed = 1}, {.steps = steps});   // (B) i32
//
// The settings act in the order of transformers' logits processors: repetition penalty, temperature, top-k, top-p, min-p,
// then a draw from what is left, renormalised. The draw of step n uses element n of the Philox sequence of the seed.
// Likelihoods relative to the most likely token are summed as whole multiples of 2^-40, so that a result is exactly the
// same on every device and depends on neither batch nor thread count.
#pragma once

#include <ondol/tensor/tensor.h>

namespace ondol {

struct SamplingOptions {
  float temperature = 0.0f;         // 0: the most likely token (greedy), the settings below but the penalty are unused
  int64_t top_k = 0;                // > 0: only the k most likely tokens (and ties with the last of them)
  float top_p = 1.0f;               // only the smallest set of most likely tokens that holds this probability
  float min_p = 0.0f;               // only tokens at least min_p times as likely as the most likely one
  float repetition_penalty = 1.0f;  // of tokens seen before: positive logits / penalty, negative * penalty (CTRL 2019)
  uint64_t seed = 0;
};

}  // namespace ondol

namespace ondol::ops {

/// What a draw depends on besides the logits; all on their device.
struct SampleInputs {
  Tensor steps;            // (B) i64, tokens generated so far; undefined: 0
  Tensor history;          // (B, L) i32, the ids so far, read when the penalty is not 1; ids outside [0, V) are ignored
  Tensor history_lengths;  // (B) i32, how many of L count; undefined: all
  Tensor* weights = nullptr;  // receives (B, V) f32: the likelihoods the draw is made from relative to the most likely
                              // token, 0 for excluded ones; needs a temperature above 0
};

/// logits (B, V) f32 or bf16 -> (B) i32; -1 where a row's largest logit is not finite or one is NaN.
Tensor sample(const Tensor& logits, const SamplingOptions& options, const SampleInputs& inputs = {});

}  // namespace ondol::ops
