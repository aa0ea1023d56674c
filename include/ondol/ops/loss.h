// Cross-entropy, plain and fused with the output projection.
//
//   auto r = ops::linear_cross_entropy(hidden, weight, labels,
//                                     {.scale = 1.0f / target_tokens, .projection = {.gradients = true}});
//   double loss = r.loss.item();                         // scale * sum over rows that count
//
// labels are i32; rows whose label is ignore_index count nothing. Losses and statistics are f32. A label outside
// [0, V) on the host throws, naming it.
#pragma once

#include <cstdint>

#include <ondol/base/ignore_index.h>
#include <ondol/tensor/tensor.h>

namespace ondol {

/// What the sum of a loss is multiplied by: value, times what `factor` (one f32 element on the loss's device) holds
/// when the work is done. A captured training step reads the number of its targets there.
struct LossScale {
  LossScale(double number = 1.0, Tensor device_factor = {})  // a plain number is a scale
      : value(static_cast<float>(number)), factor(std::move(device_factor)) {}
  float value;
  Tensor factor;
  /// Of a cross entropy: a share of the target's probability that all classes get alike (Szegedy et al. 2016), in [0,
  /// 1). Losses of other kinds refuse it.
  float label_smoothing = 0.0f;
};

namespace ops {

struct CrossEntropyResult {
  Tensor loss;  // (rows) f32
  Tensor lse;   // (rows) f32
};

/// logits (.., V), labels (..). label_smoothing e: loss = (1 - e) (lse - logits[label]) + e (lse - mean of logits).
CrossEntropyResult cross_entropy(const Tensor& logits, const Tensor& labels, int32_t ignore_index = kIgnoreIndex,
                                 float label_smoothing = 0.0f);
/// (softmax - (1 - e) one_hot - e / V) * scale.value * grad_scale, e = scale.label_smoothing; grad_scale is a
/// one-element f32 tensor or undefined. scale.factor is not looked at.
Tensor cross_entropy_backward(const Tensor& logits, const Tensor& labels, const Tensor& lse, const LossScale& scale,
                              const Tensor& grad_scale, int32_t ignore_index = kIgnoreIndex);

/// A token drawn from the softmax of each row that counts, for replaced-token detection (Clark et al. 2020): the
/// largest of logits / temperature + Gumbel noise. The noise follows from (seed, stream, samples[b], t) alone.
struct TokenDraw {
  uint64_t seed = 0;
  uint32_t stream = 0;
  Tensor samples;      // (B) i64: the numbers of the samples
  int64_t length = 1;  // T
  Tensor positions;    // (B, P) i32: the place t of each row; undefined: the rows are all (B, T)
  float temperature = 1.0f;
  Tensor tokens;    // (B, T) i32, contiguous: receives the tokens; other places stay as they are
  Tensor replaced;  // (B, T) i32, contiguous: receives 1 where the token is not the label, else 0
};

/// What a loss on top of an output projection is told, whichever it is.
struct OutputProjectionOptions {
  Tensor bias;  // (V), optional, dtype of hidden
  int32_t ignore_index = kIgnoreIndex;
  bool gradients = false;
  bool weight_gradient = true;     // false: with gradients, but for grad_weight
  Tensor grad_weight;              // (V, C) f32: where the gradient of weight goes; undefined: a new tensor
  bool accumulate_weight = false;  // add to grad_weight instead of overwriting it
  int64_t chunk_rows = 0;          // rows whose logits exist at a time; 0 chooses
};

/// With options.gradients; undefined without.
struct OutputProjectionGradients {
  Tensor grad_hidden;  // dtype of hidden
  Tensor grad_weight;  // (V, C) f32, if wanted: options.grad_weight when that was given
  Tensor grad_bias;    // (V) f32 when there is a bias
};

struct LinearCrossEntropyOptions {
  LossScale scale;                  // of the sum: 1 / (global count of target tokens) makes it a mean
  float softcap = 0.0f;             // Gemma 2: logits become softcap * tanh(logits / softcap)
  const TokenDraw* draw = nullptr;  // draws tokens from the logits on the way
  OutputProjectionOptions projection;
};

struct LinearCrossEntropyResult : OutputProjectionGradients {  // of loss
  Tensor loss;                                                 // one element, f32: scale * sum
};

/// hidden (.., C), weight (V, C), labels (..). The logits are never held whole: with gradients they are formed chunk by
/// chunk, turned into their own gradient and used up (as in Liger-Kernel, Hsu et al. 2024).
LinearCrossEntropyResult linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                              const LinearCrossEntropyOptions& options);

}  // namespace ops
}  // namespace ondol
