#include <ondol/ops/norm.h>

#include "ops/checks.h"

namespace ondol::ops {

namespace {

void check_weight(const char* op, const char* name, const Tensor& weight, const Tensor& x, int64_t cols) {
  check_like(op, name, weight, "x", x);
  ONDOL_CHECK(weight.ndim() == 1 && weight.size(0) == cols, "[", op, "] ", name, " has shape ", weight.shape(), ", x ",
              x.shape(), ": last dimensions differ");
  check_contiguous(op, name, weight);
}

NormResult run_norm(const char* op, KernelRow<NormArgs> KernelTable::*row, const Tensor& x, const Tensor& weight,
                    const Tensor& bias, const NormOptions& options, bool has_mean) {
  check_data(op, "x", x);
  const int64_t cols = last_size(op, "x", x);
  if (weight.defined()) check_weight(op, "weight", weight, x, cols);
  if (bias.defined()) check_weight(op, "bias", bias, x, cols);
  const int64_t rows = leading_size(x.shape());
  const Tensor in = x.contiguous();
  NormResult result;
  result.out = Tensor::empty(x.shape(), x.dtype(), x.device());
  result.rstd = Tensor::empty({rows}, DType::f32, x.device());
  if (has_mean) result.mean = Tensor::empty({rows}, DType::f32, x.device());
  Tensor residual;
  if (options.residual != nullptr) {
    check_like(op, "residual", *options.residual, "x", x);
    check_shape(op, "residual", *options.residual, x.shape());
    residual = options.residual->contiguous();
    result.sum = Tensor::empty(x.shape(), x.dtype(), x.device());
  } else {
    result.sum = in;
  }
  if (x.numel() == 0) {
    result.rstd.zero();
    if (has_mean) result.mean.zero();
    return result;
  }
  NormArgs args{};
  args.x = in.raw();
  args.residual = residual.raw();
  args.sum = residual.defined() ? result.sum.raw() : nullptr;
  args.weight = weight.raw();
  args.bias = bias.raw();
  args.out = result.out.raw();
  args.mean = has_mean ? result.mean.data<float>() : nullptr;
  args.rstd = result.rstd.data<float>();
  args.rows = rows;
  args.cols = cols;
  args.eps = options.eps;
  args.weight_offset = options.weight_offset;
  run_kernel(row, x.device(), x.dtype(), args);
  return result;
}

float* gradient_place(const char* name, const Tensor& gradient, const Tensor& x, int64_t cols) {
  if (!gradient.defined()) return nullptr;
  check_dtype("norm_backward", name, gradient, DType::f32, x);
  check_shape("norm_backward", name, gradient, {cols});
  check_contiguous("norm_backward", name, gradient);
  return gradient.data<float>();
}

}  // namespace

NormResult rms_norm(const Tensor& x, const Tensor& weight, const NormOptions& options) {
  return run_norm("rms_norm", &KernelTable::rms_norm, x, weight, {}, options, false);
}

NormResult layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const NormOptions& options) {
  return run_norm("layer_norm", &KernelTable::layer_norm, x, weight, bias, options, true);
}

Tensor norm_backward(const Tensor& grad_output, const Tensor& grad_sum, const NormResult& forward, const Tensor& weight,
                     float weight_offset, const NormWeightGradients& gradients) {
  constexpr const char* op = "norm_backward";
  const Tensor& x = forward.sum;
  check_data(op, "the forward's sum", x);
  check_contiguous(op, "the forward's sum", x);
  check_like(op, "grad_output", grad_output, "x", x);
  check_shape(op, "grad_output", grad_output, x.shape());
  const int64_t cols = last_size(op, "x", x);
  if (weight.defined()) check_weight(op, "weight", weight, x, cols);
  if (grad_sum.defined()) {
    check_like(op, "grad_sum", grad_sum, "x", x);
    check_shape(op, "grad_sum", grad_sum, x.shape());
  }
  const Tensor grads = grad_output.contiguous(), sum_grads = grad_sum.defined() ? grad_sum.contiguous() : Tensor();
  Tensor grad_x = Tensor::empty(x.shape(), x.dtype(), x.device());
  NormBackwardArgs args{};
  args.grad_out = grads.raw();
  args.grad_sum = sum_grads.raw();
  args.x = x.raw();
  args.weight = weight.raw();
  args.mean = forward.mean.defined() ? forward.mean.data<float>() : nullptr;
  args.rstd = forward.rstd.data<float>();
  args.grad_x = grad_x.raw();
  args.grad_weight = gradient_place("grad_weight", gradients.weight, x, cols);
  args.grad_bias = gradient_place("grad_bias", gradients.bias, x, cols);
  args.rows = leading_size(x.shape());
  args.cols = cols;
  args.weight_offset = weight_offset;
  args.accumulate = gradients.accumulate;
  if (cols == 0) return grad_x;
  run_kernel(args.mean == nullptr ? &KernelTable::rms_norm_backward : &KernelTable::layer_norm_backward, x.device(),
             x.dtype(), args);
  return grad_x;
}

}  // namespace ondol::ops
