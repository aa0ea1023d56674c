#include <ondol/autograd/functions.h>
#include <ondol/ops/embedding.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/quantized.h>
#include <ondol/ops/reduce.h>

#include "autograd/low_rank.h"
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

/// Quantised weights have no gradient.
void check_not_trained(const Variable& weight) {
  if (Tape::current() == nullptr || !weight.requires_grad()) return;
  throw UsageError("a model with quantised weights cannot be trained",
                   "convert it to f32 or bf16 first: ondol convert SRC DST --dtype bf16");
}

int64_t weight_rows(const Variable& weight) {
  return weight.quantized() != nullptr ? weight.quantized()->rows() : weight.shape()[0];
}

/// act(x w^T + bias) + residual; the values before the activation are kept when that is asked for.
Tensor product(const Tensor& x, const Variable& weight, const ops::LinearArguments& arguments) {
  const QuantizedWeight* quantized = weight.quantized();
  if (quantized == nullptr) {
    ops::LinearArguments plain = arguments;
    plain.weight = weight.value();
    return ops::linear(x, plain);
  }
  ops::QuantizedLinearArguments blocks;
  blocks.weight = *quantized;
  blocks.bias = arguments.bias;
  if (arguments.pre_activation == nullptr) {
    blocks.activation = arguments.activation;
    blocks.residual = arguments.residual;
    return ops::quantized_linear(x, blocks);
  }
  *arguments.pre_activation = ops::quantized_linear(x, blocks);
  const Tensor out = ops::activation(*arguments.pre_activation, *arguments.activation);
  if (arguments.residual.defined()) ops::accumulate(out, arguments.residual);
  return out;
}

Tensor input_gradient(const Tensor& grad, const Variable& weight) {
  const QuantizedWeight* quantized = weight.quantized();
  if (quantized == nullptr) return ops::linear_backward_input(grad, weight.value());
  return ops::linear_backward_input(grad, ops::dequantize(*quantized, grad.dtype()));
}

/// The product with a weight that has a low-rank addition: the addition comes before activation and residual.
Tensor adapted_product(const Tensor& x, const Variable& weight, const LowRankProduct& addition,
                       const ops::LinearArguments& arguments) {
  ops::LinearArguments before = arguments;
  before.activation.reset();
  before.pre_activation = nullptr;
  if (!arguments.activation) return addition.add_to(product(x, weight, before));
  before.residual = Tensor();
  const Tensor sum = addition.add_to(product(x, weight, before));
  if (arguments.pre_activation != nullptr) *arguments.pre_activation = sum;
  const Tensor out = ops::activation(sum, *arguments.activation);
  if (arguments.residual.defined()) ops::accumulate(out, arguments.residual);
  return out;
}

}  // namespace

Variable linear(const Variable& x, const LinearInputs& inputs) {
  const LowRankUpdate* update = inputs.weight.low_rank();
  if (inputs.weight.quantized() != nullptr) check_not_trained(inputs.weight);
  Tape* tape = recording(x, inputs.weight, inputs.bias, inputs.residual);
  if (update != nullptr && requires_grad(*update)) tape = Tape::current();
  ops::LinearArguments arguments;
  if (inputs.bias.defined()) arguments.bias = inputs.bias.value();
  if (inputs.residual.defined()) arguments.residual = inputs.residual.value();
  arguments.activation = inputs.activation;
  Tensor pre_activation;
  if (tape != nullptr && inputs.activation) arguments.pre_activation = &pre_activation;
  std::optional<LowRankProduct> addition;
  if (update != nullptr) addition.emplace(*update, x.value(), weight_rows(inputs.weight));
  Variable out = output(update == nullptr ? product(x.value(), inputs.weight, arguments)
                                          : adapted_product(x.value(), inputs.weight, *addition, arguments),
                        tape);
  if (tape != nullptr) {
    tape->record([x, inputs, out, pre_activation, addition] {
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
      Tensor grad_x;
      if (x.requires_grad()) grad_x = input_gradient(grad, inputs.weight);
      if (addition) grad_x = addition->backward(*inputs.weight.low_rank(), grad, x.value(), grad_x);
      if (grad_x.defined()) x.add_grad(grad_x);
    });
  }
  return out;
}

Variable embedding(const Variable& table, const Tensor& ids, int64_t padding_idx) {
  if (const QuantizedWeight* weight = table.quantized()) {
    check_not_trained(table);
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
