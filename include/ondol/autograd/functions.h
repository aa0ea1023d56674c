// Differentiable functions: the forward of ops/, and the closure of its backward when a tape records.
//
//   Variable y = functions::linear(functions::rms_norm(x, norm_weight, 1e-5f), {.weight = w});
//
// Shapes, dtypes and errors are those of the op of the same name. Gradients of activations have the activation's dtype;
// gradients of weights are f32.
#pragma once

#include <optional>

#include <ondol/autograd/variable.h>
#include <ondol/ops/attention.h>
#include <ondol/ops/distillation.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/loss.h>
#include <ondol/ops/rope.h>

namespace ondol::functions {

// Elementwise, with broadcasting.
Variable add(const Variable& a, const Variable& b);
Variable sub(const Variable& a, const Variable& b);
Variable mul(const Variable& a, const Variable& b);
Variable scale(const Variable& x, float factor);
Variable activation(const Variable& x, Activation kind);
Variable dropout(const Variable& x, float p, const RngKey& key);
Variable dropout_add(const Variable& x, const Variable& residual, float p, const RngKey& key);

// Shape.
Variable reshape(const Variable& x, const Shape& shape);
Variable transpose(const Variable& x, int dim0, int dim1);
Variable narrow(const Variable& x, int dim, int64_t start, int64_t length);
Variable concat(const std::vector<Variable>& parts, int dim);
Variable gather(const Variable& x, int dim, const Tensor& index);
Variable scatter_add(const Variable& target, int dim, const Tensor& index, const Variable& source);

// Reductions.
Variable sum(const Variable& x, int dim);
Variable mean(const Variable& x, int dim);
Variable softmax(const Variable& x);
Variable log_softmax(const Variable& x);

// Matrix products.
Variable matmul(const Variable& a, const Variable& b);

struct LinearInputs {
  Variable weight;  // (out, in)
  Variable bias;    // (out), optional
  std::optional<Activation> activation;
  Variable residual;  // (.., out), optional, added last
};
Variable linear(const Variable& x, const LinearInputs& inputs);

/// padding_idx: the row that receives no gradient, -1 for none.
Variable embedding(const Variable& table, const Tensor& ids, int64_t padding_idx = -1);
/// Row rows[b, p] of x[b]: (B, T, C), (B, P) i32 -> (B, P, C).
Variable take_rows(const Variable& x, const Tensor& rows);

// Norms. The forms with a residual return the norm of x + residual and the sum itself.
struct NormWithSum {
  Variable out;
  Variable sum;
};
Variable rms_norm(const Variable& x, const Variable& weight, float eps, float weight_offset = 0.0f);
Variable layer_norm(const Variable& x, const Variable& weight, const Variable& bias, float eps);
NormWithSum add_rms_norm(const Variable& x, const Variable& residual, const Variable& weight, float eps,
                         float weight_offset = 0.0f);
NormWithSum add_layer_norm(const Variable& x, const Variable& residual, const Variable& weight, const Variable& bias,
                           float eps);

Variable glu(const Variable& gate_up, Activation kind);
Variable rope(const Variable& x, const RopeTable& table, const ops::RopeOptions& options);

/// q (B, Tq, H, D), k, v (B, Tk, Hkv, D) -> (B, Tq, H, D). options.bias is constant; a learned bias (H or 1, Tq, Tk)
/// comes as `bias`.
Variable attention(const Variable& q, const Variable& k, const Variable& v, const AttentionOptions& options,
                   const Variable& bias = {});

/// Self-attention on one fused projection qkv (B, T, (H + 2 Hkv) D): queries, keys, values side by side; with a table,
/// queries and keys are rotated first, in place: qkv must not be used elsewhere. `relative_bias` (H, R): a learned
/// options.relative_bias, with options.relative_origin. -> (B, T, H D).
struct PackedAttention {
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  const RopeTable* rope = nullptr;
  Tensor positions;  // (B, T) i32, for rope; undefined: 0, 1, 2, ...
  AttentionOptions options;
};
Variable packed_attention(const Variable& qkv, const PackedAttention& arguments, const Variable& relative_bias = {});
/// Attention of q (B, Tq, H D) on a fused projection kv (B, Tk, 2 Hkv D) of other states: keys, values side by side; no
/// rotation. -> (B, Tq, H D).
Variable packed_cross_attention(const Variable& q, const Variable& kv, const PackedAttention& arguments);
/// What attention takes as relative_bias: table (buckets, H), buckets (R) i32 -> (H, R).
Variable relative_bias(const Variable& table, const Tensor& buckets);

/// scale * sum over counting rows; one element.
Variable cross_entropy(const Variable& logits, const Tensor& labels, const LossScale& scale,
                       int32_t ignore_index = kIgnoreIndex);
/// The same on hidden (.., C) with the output weight (V, C). A term of the final loss: its gradients are formed in the
/// forward, straight into the weight's gradient, so the result may be added to other terms but not multiplied (use
/// `scale`); backward throws when another gradient than 1 arrives.
struct LinearCrossEntropyInputs {
  Variable weight;  // (V, C)
  Variable bias;    // (V), optional
  LossScale scale;
  float softcap = 0.0f;
  int32_t ignore_index = kIgnoreIndex;
  const ops::TokenDraw* draw = nullptr;
};
Variable linear_cross_entropy(const Variable& hidden, const Tensor& labels, const LinearCrossEntropyInputs& inputs);

/// Losses of a student's output projection beside a teacher's; ops/distillation.h has the formulas. Terms of the final
/// loss both, as linear_cross_entropy: backward needs a gradient of 1 for each.
struct LinearDistillationInputs {
  Variable weight;  // (V, C)
  Variable bias;    // (V), optional
  ops::TeacherScores teacher;
  float temperature = 1.0f;
  float label_mix = 0.0f;
  LossScale soft_scale, hard_scale;
  int32_t ignore_index = kIgnoreIndex;
};
struct DistillationLosses {
  Variable soft, hard;
};
DistillationLosses linear_distillation(const Variable& hidden, const Tensor& labels,
                                       const LinearDistillationInputs& inputs);

/// scale * sum over rows of weight (1 - cos(x, target)), one f32 element. x, target (.., C), of one dtype; weights (..)
/// f32, undefined: 1. cos = x . y / sqrt((|x|^2 + 1e-12) (|y|^2 + 1e-12)), as torch.nn.CosineEmbeddingLoss.
Variable cosine_distance(const Variable& x, const Tensor& target, const Tensor& weights, const LossScale& scale);

/// scale * sum of (x - target)^2, one f32 element; target is f32, of the shape of x. Regression.
Variable squared_error(const Variable& x, const Tensor& target, const LossScale& scale);
/// scale * sum of -y log(sigmoid(x)) - (1 - y) log(1 - sigmoid(x)), one f32 element; the targets y (f32, of the shape
/// of x) lie in [0, 1].
Variable binary_cross_entropy(const Variable& x, const Tensor& target, const LossScale& scale);

}  // namespace ondol::functions
