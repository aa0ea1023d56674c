#include <ondol/autograd/functions.h>
#include <ondol/ops/reduce.h>

#include "autograd/recording.h"

namespace ondol::functions {

Variable reshape(const Variable& x, const Shape& shape) {
  Tape* tape = recording(x);
  Variable out = output(x.value().reshape(shape), tape);
  if (tape != nullptr) {
    tape->record([x, out] {
      if (out.has_grad()) x.add_grad(out.take_grad().contiguous().reshape(x.shape()));
    });
  }
  return out;
}

Variable transpose(const Variable& x, int dim0, int dim1) {
  Tape* tape = recording(x);
  Variable out = output(x.value().transpose(dim0, dim1), tape);
  if (tape != nullptr) {
    tape->record([x, out, dim0, dim1] {
      if (out.has_grad()) x.add_grad(out.take_grad().transpose(dim0, dim1));
    });
  }
  return out;
}

Variable narrow(const Variable& x, int dim, int64_t start, int64_t length) {
  Tape* tape = recording(x);
  Variable out = output(x.value().narrow(dim, start, length), tape);
  if (tape != nullptr) {
    tape->record([x, out, dim, start, length] {
      if (!out.has_grad()) return;
      Tensor grad = Tensor::zeros(x.shape(), x.dtype(), x.device());
      grad.narrow(dim, start, length).copy_from(out.take_grad());
      x.add_grad(grad);
    });
  }
  return out;
}

Variable concat(const std::vector<Variable>& parts, int dim) {
  std::vector<Tensor> values;
  bool wanted = false;
  for (const Variable& part : parts) {
    values.push_back(part.value());
    wanted = wanted || part.requires_grad();
  }
  Tape* tape = wanted ? Tape::current() : nullptr;
  Variable out = output(ops::concat(values, dim), tape);
  if (tape != nullptr) {
    tape->record([parts, out, dim] {
      if (!out.has_grad()) return;
      const Tensor grad = out.take_grad();
      int64_t start = 0;
      for (const Variable& part : parts) {
        const int64_t length = part.shape()[dim];
        if (part.requires_grad()) part.add_grad(grad.narrow(dim, start, length).contiguous());
        start += length;
      }
    });
  }
  return out;
}

Variable gather(const Variable& x, int dim, const Tensor& index) {
  Tape* tape = recording(x);
  Variable out = output(ops::gather(x.value(), dim, index), tape);
  if (tape != nullptr) {
    tape->record([x, out, dim, index] {
      if (!out.has_grad()) return;
      const Tensor grad = Tensor::zeros(x.shape(), x.dtype(), x.device());
      ops::scatter_add(grad, dim, index, out.take_grad().contiguous());
      x.add_grad(grad);
    });
  }
  return out;
}

Variable scatter_add(const Variable& target, int dim, const Tensor& index, const Variable& source) {
  Tape* tape = recording(target, source);
  const Tensor value = target.value().clone();
  ops::scatter_add(value, dim, index, source.value());
  Variable out = output(value, tape);
  if (tape != nullptr) {
    tape->record([target, source, out, dim, index] {
      if (!out.has_grad()) return;
      const Tensor grad = out.take_grad().contiguous();
      if (source.requires_grad()) source.add_grad(ops::gather(grad, dim, index));
      if (target.requires_grad()) target.add_grad(grad);
    });
  }
  return out;
}

}  // namespace ondol::functions
