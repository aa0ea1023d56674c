#include <ondol/autograd/functions.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

Variable rope(const Variable& x, const RopeTable& table, const ops::RopeOptions& options) {
  Tape* tape = recording(x);
  Variable out = output(ops::rope(x.value(), table, options), tape);
  if (tape != nullptr) {
    const Tensor positions = options.positions != nullptr ? *options.positions : Tensor();
    tape->record([x, out, table, options, positions] {
      if (!out.has_grad()) return;
      ops::RopeOptions backward = options;
      backward.inverse = !options.inverse;
      backward.positions = positions.defined() ? &positions : nullptr;
      x.add_grad(ops::rope(out.take_grad().contiguous(), table, backward));
    });
  }
  return out;
}

Variable attention(const Variable& q, const Variable& k, const Variable& v, const AttentionOptions& options,
                   const Variable& bias) {
  Tape* tape = recording(q, k, v, bias);
  AttentionOptions with_bias = options;
  if (bias.defined()) with_bias.bias = bias.value();
  const ops::AttentionResult forward = ops::attention(q.value(), k.value(), v.value(), with_bias, tape != nullptr);
  Variable out = output(forward.out, tape);
  if (tape != nullptr) {
    tape->record([q, k, v, bias, out, forward, with_bias] {
      if (!out.has_grad()) return;
      const Tensor grad_q = Tensor::empty(q.shape(), q.dtype(), q.device());
      const Tensor grad_k = Tensor::empty(k.shape(), k.dtype(), k.device());
      const Tensor grad_v = Tensor::empty(v.shape(), v.dtype(), v.device());
      Tensor grad_bias;
      if (bias.requires_grad()) {
        grad_bias = Tensor::zeros({q.shape()[2], q.shape()[1], k.shape()[1]}, DType::f32, q.device());
      }
      ops::attention_backward_into(out.take_grad().contiguous(), q.value(), k.value(), v.value(), forward, with_bias,
                                   grad_q, grad_k, grad_v, grad_bias);
      if (q.requires_grad()) q.add_grad(grad_q);
      if (k.requires_grad()) k.add_grad(grad_k);
      if (v.requires_grad()) v.add_grad(grad_v);
      if (grad_bias.defined()) bias.add_grad(ops::sum_to_shape(grad_bias, bias.shape()).to(bias.dtype()));
    });
  }
  return out;
}

namespace {

struct PackedViews {
  Tensor q, k, v;

  /// qkv (B, T, (H + 2 Hkv) D) as (B, T, heads, D) slices.
  PackedViews(const Tensor& qkv, const PackedAttention& a) {
    const int64_t heads = a.num_heads + 2 * a.num_kv_heads;
    ONDOL_CHECK(qkv.ndim() == 3 && qkv.size(2) == heads * a.head_dim, "[packed_attention] projection has shape ",
                qkv.shape(), ", ", heads, " heads of ", a.head_dim, " expected");
    const Tensor split = qkv.reshape({qkv.size(0), qkv.size(1), heads, a.head_dim});
    q = split.narrow(2, 0, a.num_heads);
    k = split.narrow(2, a.num_heads, a.num_kv_heads);
    v = split.narrow(2, a.num_heads + a.num_kv_heads, a.num_kv_heads);
  }

  /// Queries and keys together: they lie side by side.
  static Tensor rotated_heads(const Tensor& qkv, const PackedAttention& a) {
    return qkv.reshape({qkv.size(0), qkv.size(1), a.num_heads + 2 * a.num_kv_heads, a.head_dim})
        .narrow(2, 0, a.num_heads + a.num_kv_heads);
  }
};

}  // namespace

Variable packed_attention(const Variable& qkv, const PackedAttention& arguments) {
  Tape* tape = recording(qkv);
  const PackedViews views(qkv.value(), arguments);
  if (arguments.rope != nullptr) {
    ops::RopeOptions options;
    if (arguments.positions.defined()) options.positions = &arguments.positions;
    ops::rope_in_place(PackedViews::rotated_heads(qkv.value(), arguments), *arguments.rope, options);
  }
  const ops::AttentionResult forward =
      ops::attention(views.q, views.k, views.v, arguments.options, tape != nullptr);
  const int64_t batch = qkv.shape()[0], length = qkv.shape()[1];
  Variable out = output(forward.out.reshape({batch, length, arguments.num_heads * arguments.head_dim}), tape);
  if (tape != nullptr) {
    tape->record([qkv, arguments, out, forward] {
      if (!out.has_grad()) return;
      const PackedViews values(qkv.value(), arguments);
      const Tensor grad = Tensor::empty(qkv.shape(), qkv.dtype(), qkv.device());
      const PackedViews grads(grad, arguments);
      ops::attention_backward_into(out.take_grad().contiguous().reshape(forward.out.shape()), values.q, values.k,
                                   values.v, forward, arguments.options, grads.q, grads.k, grads.v);
      if (arguments.rope != nullptr) {
        ops::RopeOptions inverse{.inverse = true};
        if (arguments.positions.defined()) inverse.positions = &arguments.positions;
        ops::rope_in_place(PackedViews::rotated_heads(grad, arguments), *arguments.rope, inverse);
      }
      qkv.add_grad(grad);
    });
  }
  return out;
}

}  // namespace ondol::functions
