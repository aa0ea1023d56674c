#include <ondol/autograd/tensor_parallel.h>

#include <ondol/ops/elementwise.h>
#include <ondol/ops/matmul.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

namespace {

Tensor as_rows(const Tensor& x) {
  const int64_t columns = x.size(x.ndim() - 1);
  return x.contiguous().reshape({columns == 0 ? 0 : x.numel() / columns, columns});
}

/// A collective under way: its result is there after wait().
struct Pending {
  Tensor result;
  CommEvent event;
  Tensor source;  // a collective reads it until it has ended

  Tensor wait() const {
    event.wait();
    return result;
  }
};

/// (.., n, C) -> (P n, C).
Pending start_gather(const Tensor& own, Communicator& group) {
  Pending pending;
  pending.source = as_rows(own);
  pending.result =
      Tensor::empty({pending.source.size(0) * group.size(), pending.source.size(1)}, own.dtype(), own.device());
  pending.event = group.all_gather(pending.result, pending.source);
  return pending;
}

Tensor first_rows(const Tensor& gathered, int64_t rows) { return gathered.narrow(0, 0, rows); }

/// (rows, C) -> (n, C).
Pending start_reduce_scatter(const Tensor& parts, Communicator& group) {
  Pending pending;
  pending.source = as_rows(parts);
  const int64_t rows = pending.source.size(0), columns = pending.source.size(1), own = rows_of_rank(rows, group);
  if (own * group.size() != rows) {
    const Tensor padded = Tensor::zeros({own * group.size(), columns}, parts.dtype(), parts.device());
    padded.narrow(0, 0, rows).copy_from(pending.source);
    pending.source = padded;
  }
  pending.result = Tensor::empty({own, columns}, parts.dtype(), parts.device());
  pending.event = group.reduce_scatter(pending.result, pending.source);
  return pending;
}

void check_plain(const char* function, const LinearInputs& inputs) {
  ONDOL_CHECK(inputs.weight.quantized() == nullptr && inputs.weight.low_rank() == nullptr, "[", function,
              "] a weight that is split over ranks can be neither quantised nor adapted");
}

}  // namespace

int64_t rows_of_rank(int64_t rows, const Communicator& group) { return (rows + group.size() - 1) / group.size(); }

Variable gather_rows(const Variable& own, int64_t rows, Communicator& group) {
  Tape* tape = recording(own);
  Variable out = output(first_rows(start_gather(own.value(), group).wait(), rows), tape);
  if (tape != nullptr) {
    tape->record([own, out, &group] {
      // The others wait for this rank, whether it has a gradient or not.
      const Tensor grad = out.has_grad() ? out.take_grad() : Tensor::zeros(out.shape(), out.dtype(), out.device());
      own.add_grad(start_reduce_scatter(grad, group).wait().reshape(own.shape()));
    });
  }
  return out;
}

Variable reduce_scatter_rows(const Variable& x, Communicator& group) {
  Tape* tape = recording(x);
  Variable out = output(start_reduce_scatter(x.value(), group).wait(), tape);
  if (tape != nullptr) {
    tape->record([x, out, &group] {
      const Tensor grad = out.has_grad() ? out.take_grad() : Tensor::zeros(out.shape(), out.dtype(), out.device());
      x.add_grad(first_rows(start_gather(grad, group).wait(), as_rows(x.value()).size(0)).reshape(x.shape()));
    });
  }
  return out;
}

Variable column_parallel_linear(const Variable& x, const LinearInputs& inputs, const Shape& tokens,
                                Communicator& group) {
  check_plain("column_parallel_linear", inputs);
  ONDOL_CHECK(!inputs.residual.defined(), "[column_parallel_linear] has no residual");
  const int64_t rows = tokens.numel();
  ONDOL_CHECK(as_rows(x.value()).size(0) == rows_of_rank(rows, group), "[column_parallel_linear] x ", x.shape(),
              " is not this rank's share of ", rows, " rows");
  Tape* tape = recording(x, inputs.weight, inputs.bias);
  ops::LinearArguments arguments;
  arguments.weight = inputs.weight.value();
  if (inputs.bias.defined()) arguments.bias = inputs.bias.value();
  arguments.activation = inputs.activation;
  Tensor pre_activation;
  if (tape != nullptr && inputs.activation) arguments.pre_activation = &pre_activation;
  std::vector<int64_t> sizes(tokens.begin(), tokens.end());
  sizes.push_back(arguments.weight.size(0));
  Variable out = output(
      ops::linear(first_rows(start_gather(x.value(), group).wait(), rows), arguments).reshape(Shape(sizes)), tape);
  if (tape != nullptr) {
    tape->record([x, inputs, out, pre_activation, rows, &group] {
      Pending gathered;
      if (inputs.weight.requires_grad()) gathered = start_gather(x.value(), group);
      Tensor grad = as_rows(out.has_grad() ? out.take_grad() : Tensor::zeros(out.shape(), out.dtype(), out.device()));
      GradientTarget bias;
      if (inputs.bias.requires_grad()) bias = inputs.bias.grad_target();
      if (inputs.activation) {
        ops::activation_backward_in_place(pre_activation, grad, *inputs.activation, bias.tensor, bias.accumulate);
        grad = pre_activation;
      } else if (bias.tensor.defined()) {
        ops::sum_rows_into(bias.tensor, grad, bias.accumulate);
      }
      Pending sum;
      if (x.requires_grad()) sum = start_reduce_scatter(ops::linear_backward_input(grad, inputs.weight.value()), group);
      if (inputs.weight.requires_grad()) {
        const GradientTarget target = inputs.weight.grad_target();
        ops::linear_backward_weight_into(target.tensor, grad, first_rows(gathered.wait(), rows), target.accumulate);
      }
      if (x.requires_grad()) x.add_grad(sum.wait().reshape(x.shape()));
    });
  }
  return out;
}

Variable row_parallel_linear(const Variable& x, const LinearInputs& inputs, Communicator& group) {
  check_plain("row_parallel_linear", inputs);
  ONDOL_CHECK(!inputs.activation, "[row_parallel_linear] has no activation");
  Tape* tape = recording(x, inputs.weight, inputs.bias, inputs.residual);
  ops::LinearArguments arguments;
  arguments.weight = inputs.weight.value();
  Tensor sum = start_reduce_scatter(ops::linear(as_rows(x.value()), arguments), group).wait();
  if (inputs.bias.defined()) sum = ops::add(sum, inputs.bias.value());
  sum = sum.reshape({1, sum.size(0), sum.size(1)});
  if (inputs.residual.defined()) ops::accumulate(sum, inputs.residual.value());
  Variable out = output(sum, tape);
  if (tape != nullptr) {
    tape->record([x, inputs, out, &group] {
      const Tensor own = out.has_grad() ? out.take_grad() : Tensor::zeros(out.shape(), out.dtype(), out.device());
      const Pending gathered = start_gather(own, group);
      if (inputs.residual.requires_grad()) inputs.residual.add_grad(own);
      if (inputs.bias.requires_grad()) {
        const GradientTarget bias = inputs.bias.grad_target();
        ops::sum_rows_into(bias.tensor, own, bias.accumulate);
      }
      const Tensor rows = as_rows(x.value());
      const Tensor grad = first_rows(gathered.wait(), rows.size(0));
      if (inputs.weight.requires_grad()) {
        const GradientTarget target = inputs.weight.grad_target();
        ops::linear_backward_weight_into(target.tensor, grad, rows, target.accumulate);
      }
      if (x.requires_grad()) {
        x.add_grad(ops::linear_backward_input(grad, inputs.weight.value()).reshape(x.shape()));
      }
    });
  }
  return out;
}

}  // namespace ondol::functions
