#include <ondol/autograd/functions.h>
#include <ondol/ops/embedding.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/quantized.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

Variable matmul(const Variable& a, const Variable& b) {
  Tape* tape = recording(a, b);
  Variable out = output(ops::matmul(a.value(), b.value()), tape);
  if (tape != nullptr) {
    tape->record([a, b, out] {
      if (!out.has_grad()) return;
      const Tensor grad = out.take_grad();
      if (a.requires_grad()) {
        a.add_grad(ops::sum_to_shape(ops::matmul(grad, b.value().transpose(-1, -2)), a.shape()));
      }
      if (b.requires_grad()) {
        b.add_grad(ops::sum_to_shape(ops::matmul(a.value().transpose(-1, -2), grad), b.shape()));
      }
    });
  }
  return out;
}

namespace {

/// Quantised weights have no gradient, and the products with them none either.
void check_not_recorded() {
  if (Tape::current() == nullptr) return;
  throw UsageError("a model with quantised weights cannot be trained",
                   "convert it to f32 or bf16 first: ondol convert SRC DST --dtype bf16");
}

}  // namespace

Variable linear(const Variable& x, const LinearInputs& inputs) {
  if (const QuantizedWeight* weight = inputs.weight.quantized()) {
    check_not_recorded();
    ops::QuantizedLinearArguments arguments;
    arguments.weight = *weight;
    if (inputs.bias.defined()) arguments.bias = inputs.bias.value();
    if (inputs.residual.defined()) arguments.residual = inputs.residual.value();
    arguments.activation = inputs.activation;
    return Variable(ops::quantized_linear(x.value(), arguments));
  }
  Tape* tape = recording(x, inputs.weight, inputs.bias, inputs.residual);
  ops::LinearArguments arguments;
  arguments.weight = inputs.weight.value();
  if (inputs.bias.defined()) arguments.bias = inputs.bias.value();
  if (inputs.residual.defined()) arguments.residual = inputs.residual.value();
  arguments.activation = inputs.activation;
  Tensor pre_activation;
  if (tape != nullptr && inputs.activation) arguments.pre_activation = &pre_activation;
  Variable out = output(ops::linear(x.value(), arguments), tape);
  if (tape != nullptr) {
    tape->record([x, inputs, out, pre_activation] {
      if (!out.has_grad()) return;
      Tensor grad = out.take_grad();
      if (inputs.residual.requires_grad()) inputs.residual.add_grad(grad);
      GradientTarget bias;
      if (inputs.bias.requires_grad()) bias = inputs.bias.grad_target();
      if (inputs.activation) {  // nothing else needs the values before the activation: their memory takes the gradient
        ops::activation_backward_in_place(pre_activation, grad, *inputs.activation, bias.tensor, bias.accumulate);
        grad = pre_activation;
      } else if (bias.tensor.defined()) {
        ops::sum_rows_into(bias.tensor, grad, bias.accumulate);
      }
      if (inputs.weight.requires_grad()) {
        const GradientTarget target = inputs.weight.grad_target();
        ops::linear_backward_weight_into(target.tensor, grad, x.value(), target.accumulate);
      }
      if (x.requires_grad()) x.add_grad(ops::linear_backward_input(grad, inputs.weight.value()));
    });
  }
  return out;
}

Variable embedding(const Variable& table, const Tensor& ids, int64_t padding_idx) {
  if (const QuantizedWeight* weight = table.quantized()) {
    check_not_recorded();
    ONDOL_CHECK(weight->parts.size() == 1, "[embedding] the quantised table has ", weight->parts.size(), " parts");
    return Variable(ops::quantized_embedding(weight->parts.front(), ids, weight->dtype));
  }
  Tape* tape = recording(table);
  Variable out = output(ops::embedding(table.value(), ids), tape);
  if (tape != nullptr) {
    tape->record([table, ids, out, padding_idx] {
      if (!out.has_grad()) return;
      const GradientTarget target = table.grad_target();
      ops::embedding_backward_into(target.tensor, out.take_grad().contiguous(), ids, target.accumulate, padding_idx);
    });
  }
  return out;
}

Variable take_rows(const Variable& x, const Tensor& rows) {
  Tape* tape = recording(x);
  Variable out = output(ops::take_rows(x.value(), rows), tape);
  if (tape != nullptr) {
    tape->record([x, rows, out] {
      if (!out.has_grad()) return;
      x.add_grad(ops::take_rows_backward(out.take_grad(), rows, x.shape()[1]).to(x.dtype()));
    });
  }
  return out;
}

}  // namespace ondol::functions
