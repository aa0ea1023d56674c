#include <ondol/autograd/functions.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/embedding.h>
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

/// qkv or kv (B, T, heads D) as (B, T, heads, D).
Tensor split_heads(const char* op, const Tensor& x, int64_t heads, const PackedAttention& a) {
  ONDOL_CHECK(x.ndim() == 3 && x.size(2) == heads * a.head_dim, "[", op, "] projection has shape ", x.shape(), ", ",
              heads, " heads of ", a.head_dim, " expected");
  return x.reshape({x.size(0), x.size(1), heads, a.head_dim});
}

struct PackedViews {
  Tensor q, k, v, rotated;  // rotated: queries and keys, which lie side by side

  PackedViews(const Tensor& qkv, const PackedAttention& a) {
    const Tensor split = split_heads("packed_attention", qkv, a.num_heads + 2 * a.num_kv_heads, a);
    q = split.narrow(2, 0, a.num_heads);
    k = split.narrow(2, a.num_heads, a.num_kv_heads);
    v = split.narrow(2, a.num_heads + a.num_kv_heads, a.num_kv_heads);
    rotated = split.narrow(2, 0, a.num_heads + a.num_kv_heads);
  }
};

struct CrossViews {
  Tensor q, k, v;

  CrossViews(const Tensor& queries, const Tensor& kv, const PackedAttention& a) {
    const Tensor split = split_heads("packed_cross_attention", kv, 2 * a.num_kv_heads, a);
    q = split_heads("packed_cross_attention", queries, a.num_heads, a);
    k = split.narrow(2, 0, a.num_kv_heads);
    v = split.narrow(2, a.num_kv_heads, a.num_kv_heads);
  }
};

/// From the gradient of each pair (H, Tq, Tk) to that of a relative bias (H, R).
void add_relative_bias_grad(const Variable& bias, const Tensor& grad_pairs, int64_t origin) {
  const Tensor sums = ops::sum_relative_bias_grad(grad_pairs);
  const Tensor grad = Tensor::zeros(bias.shape(), DType::f32, bias.device());
  grad.narrow(1, origin - (grad_pairs.size(2) - 1), sums.size(1)).copy_from(sums);
  const GradientTarget target = bias.grad_target();
  if (target.accumulate) {
    ops::accumulate(target.tensor, grad);
  } else {
    target.tensor.copy_from(grad);
  }
}

}  // namespace

Variable packed_attention(const Variable& qkv, const PackedAttention& given, const Variable& relative_bias) {
  Tape* tape = recording(qkv, relative_bias);
  PackedAttention arguments = given;
  if (relative_bias.defined()) arguments.options.relative_bias = relative_bias.value();
  const PackedViews views(qkv.value(), arguments);
  if (arguments.rope != nullptr) {
    ops::RopeOptions options;
    if (arguments.positions.defined()) options.positions = &arguments.positions;
    ops::rope_in_place(views.rotated, *arguments.rope, options);
  }
  const ops::AttentionResult forward = ops::attention(views.q, views.k, views.v, arguments.options, tape != nullptr);
  const int64_t batch = qkv.shape()[0], length = qkv.shape()[1];
  Variable out = output(forward.out.reshape({batch, length, arguments.num_heads * arguments.head_dim}), tape);
  if (tape != nullptr) {
    tape->record([qkv, arguments, relative_bias, out, forward] {
      if (!out.has_grad()) return;
      const PackedViews values(qkv.value(), arguments);
      const Tensor grad = Tensor::empty(qkv.shape(), qkv.dtype(), qkv.device());
      const PackedViews grads(grad, arguments);
      Tensor grad_pairs;
      if (relative_bias.requires_grad()) {
        const int64_t queries = qkv.shape()[1];
        grad_pairs = Tensor::empty({arguments.num_heads, queries, queries}, DType::f32, qkv.device());
      }
      ops::attention_backward_into(out.take_grad().contiguous().reshape(forward.out.shape()), values.q, values.k,
                                   values.v, forward, arguments.options, grads.q, grads.k, grads.v, grad_pairs);
      if (grad_pairs.defined()) {
        add_relative_bias_grad(relative_bias, grad_pairs, arguments.options.relative_origin);
      }
      if (arguments.rope != nullptr) {
        ops::RopeOptions inverse{.inverse = true};
        if (arguments.positions.defined()) inverse.positions = &arguments.positions;
        ops::rope_in_place(grads.rotated, *arguments.rope, inverse);
      }
      qkv.add_grad(grad);
    });
  }
  return out;
}

Variable packed_cross_attention(const Variable& q, const Variable& kv, const PackedAttention& arguments) {
  Tape* tape = recording(q, kv);
  const CrossViews views(q.value(), kv.value(), arguments);
  const ops::AttentionResult forward = ops::attention(views.q, views.k, views.v, arguments.options, tape != nullptr);
  Variable out = output(forward.out.reshape(q.shape()), tape);
  if (tape != nullptr) {
    tape->record([q, kv, arguments, out, forward] {
      if (!out.has_grad()) return;
      const CrossViews values(q.value(), kv.value(), arguments);
      const Tensor grad_q = Tensor::empty(q.shape(), q.dtype(), q.device());
      const Tensor grad_kv = Tensor::empty(kv.shape(), kv.dtype(), kv.device());
      const CrossViews grads(grad_q, grad_kv, arguments);
      ops::attention_backward_into(out.take_grad().contiguous().reshape(forward.out.shape()), values.q, values.k,
                                   values.v, forward, arguments.options, grads.q, grads.k, grads.v);
      if (q.requires_grad()) q.add_grad(grad_q);
      if (kv.requires_grad()) kv.add_grad(grad_kv);
    });
  }
  return out;
}

Variable relative_bias(const Variable& table, const Tensor& buckets) {
  Tape* tape = recording(table);
  Variable out = output(ops::embedding(table.value(), buckets).transpose(0, 1).contiguous(), tape);
  if (tape != nullptr) {
    tape->record([table, buckets, out] {
      if (!out.has_grad()) return;
      const GradientTarget target = table.grad_target();
      ops::embedding_backward_into(target.tensor, out.take_grad().transpose(0, 1).contiguous(), buckets,
                                   target.accumulate);
    });
  }
  return out;
}

}  // namespace ondol::functions
