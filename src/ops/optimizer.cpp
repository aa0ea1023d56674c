#include <ondol/ops/optimizer.h>

#include "backend/backend.h"
#include "ops/checks.h"

namespace ondol::ops {

namespace {

float* flat_f32(const char* op, const char* name, const Tensor& t, const Tensor& param) {
  check_dtype(op, name, t, DType::f32, param);
  check_contiguous(op, name, t);
  ONDOL_CHECK(t.numel() == param.numel(), "[", op, "] ", name, " has ", t.numel(), " elements, param ", param.numel());
  return t.data<float>();
}

bfloat16* flat_bf16(const char* op, const Tensor& t, const Tensor& param) {
  if (!t.defined()) return nullptr;
  check_dtype(op, "low_precision", t, DType::bf16, param);
  check_contiguous(op, "low_precision", t);
  ONDOL_CHECK(t.numel() == param.numel(), "[", op, "] low_precision has ", t.numel(), " elements, param ",
              param.numel());
  return t.data<bfloat16>();
}

const OptimizerScalars* scalars_of(const char* op, const OptimizerScalarsTensor& scalars, const Tensor& param) {
  check_dtype(op, "scalars", scalars.bytes, DType::u8, param);
  check_shape(op, "scalars", scalars.bytes, {static_cast<int64_t>(sizeof(OptimizerScalars))});
  return static_cast<const OptimizerScalars*>(scalars.bytes.raw());
}

/// What every update is told.
template <class Args, class State, class Options>
Args common_args(const char* op, const State& state, const Options& options, const OptimizerScalarsTensor& scalars) {
  Args args{};
  args.param = flat_f32(op, "param", state.param, state.param);
  args.low_precision = flat_bf16(op, state.low_precision, state.param);
  args.grad = flat_f32(op, "grad", state.grad, state.param);
  args.weight_decay = options.weight_decay;
  args.rate_scale = options.rate_scale;
  args.scalars = scalars_of(op, scalars, state.param);
  return args;
}

/// Adam's moments, of AdamW and LAMB.
template <class Args>
void fill_moments(const char* op, const AdamwState& state, const AdamwOptions& options, Args& args) {
  args.exp_avg = flat_f32(op, "exp_avg", state.exp_avg, state.param);
  args.exp_avg_sq = flat_f32(op, "exp_avg_sq", state.exp_avg_sq, state.param);
  args.beta1 = options.beta1;
  args.beta2 = options.beta2;
  args.eps = options.eps;
}

}  // namespace

OptimizerScalarsTensor make_optimizer_scalars(Device device) {
  OptimizerScalarsTensor scalars{Tensor::empty({static_cast<int64_t>(sizeof(OptimizerScalars))}, DType::u8, device)};
  set_optimizer_scalars(scalars, 0.0f, 1.0f, 1);
  return scalars;
}

void set_optimizer_scalars(const OptimizerScalarsTensor& scalars, float learning_rate, float grad_scale, int64_t step) {
  ONDOL_CHECK(step >= 0, "[set_optimizer_scalars] step ", step, " is negative");
  check_shape("set_optimizer_scalars", "scalars", scalars.bytes, {static_cast<int64_t>(sizeof(OptimizerScalars))});
  const OptimizerScalars values{learning_rate, grad_scale, step, 0};
  const Device device = scalars.bytes.device();
  backend(device.type).copy_bytes(scalars.bytes.raw(), &values, sizeof(values), device);
}

void adamw_step(const AdamwState& state, const AdamwOptions& options, const OptimizerScalarsTensor& scalars) {
  constexpr const char* op = "adamw";
  auto args = common_args<AdamwArgs>(op, state, options, scalars);
  args.count = state.param.numel();
  fill_moments(op, state, options, args);
  if (args.count > 0) run_kernel(&KernelTable::adamw, state.param.device(), DType::f32, args);
}

void sgd_step(const SgdState& state, const SgdOptions& options, const OptimizerScalarsTensor& scalars) {
  constexpr const char* op = "sgd";
  ONDOL_CHECK(state.momentum_buffer.defined() || options.momentum == 0.0f, "[sgd] momentum ", options.momentum,
              " needs a momentum buffer");
  auto args = common_args<SgdArgs>(op, state, options, scalars);
  if (state.momentum_buffer.defined()) {
    args.momentum_buffer = flat_f32(op, "momentum_buffer", state.momentum_buffer, state.param);
  }
  args.count = state.param.numel();
  args.momentum = options.momentum;
  args.nesterov = options.nesterov;
  if (args.count > 0) run_kernel(&KernelTable::sgd, state.param.device(), DType::f32, args);
}

void lion_step(const LionState& state, const LionOptions& options, const OptimizerScalarsTensor& scalars) {
  constexpr const char* op = "lion";
  auto args = common_args<LionArgs>(op, state, options, scalars);
  args.exp_avg = flat_f32(op, "exp_avg", state.exp_avg, state.param);
  args.count = state.param.numel();
  args.beta1 = options.beta1;
  args.beta2 = options.beta2;
  if (args.count > 0) run_kernel(&KernelTable::lion, state.param.device(), DType::f32, args);
}

namespace {

/// A vector is a matrix of one row.
int64_t rows_of(const char* op, const Tensor& param) {
  ONDOL_CHECK(param.ndim() == 1 || param.ndim() == 2, "[", op, "] param has shape ", param.shape(),
              ": a matrix or a vector is needed");
  return param.ndim() == 2 ? param.size(0) : 1;
}

}  // namespace

void lamb_step(const AdamwState& state, const AdamwOptions& options, const OptimizerScalarsTensor& scalars) {
  constexpr const char* op = "lamb";
  auto args = common_args<LambArgs>(op, state, options, scalars);
  args.rows = rows_of(op, state.param);
  args.cols = state.param.size(-1);
  fill_moments(op, state, options, args);
  if (state.param.numel() == 0) return;
  const Tensor sums = Tensor::empty({2, args.rows}, DType::f64, state.param.device());
  args.sums = sums.data<double>();
  run_kernel(&KernelTable::lamb, state.param.device(), DType::f32, args);
}

void adafactor_step(const AdafactorState& state, const AdafactorOptions& options,
                    const OptimizerScalarsTensor& scalars) {
  constexpr const char* op = "adafactor";
  const Tensor& param = state.param;
  auto args = common_args<AdafactorArgs>(op, state, options, scalars);
  args.rows = rows_of(op, param);
  args.cols = param.size(-1);
  const bool matrix = param.ndim() == 2;
  check_dtype(op, "row", state.row, DType::f32, param);
  check_contiguous(op, "row", state.row);
  ONDOL_CHECK(state.row.numel() == (matrix ? args.rows : args.cols), "[", op, "] row has shape ", state.row.shape(),
              ", param ", param.shape());
  args.row = state.row.data<float>();
  if (matrix) {
    check_dtype(op, "column", state.column, DType::f32, param);
    check_contiguous(op, "column", state.column);
    ONDOL_CHECK(state.column.numel() == args.cols, "[", op, "] column has shape ", state.column.shape(), ", param ",
                param.shape());
    args.column = state.column.data<float>();
  }
  if (state.exp_avg.defined()) args.exp_avg = flat_f32(op, "exp_avg", state.exp_avg, param);
  args.eps1 = options.eps1;
  args.eps2 = options.eps2;
  args.clip = options.clip_threshold;
  args.decay = options.decay_rate;
  args.beta1 = options.beta1;
  args.scale_parameter = options.scale_parameter;
  args.relative_step = options.relative_step;
  args.warmup_init = options.warmup_init;
  if (param.numel() == 0) return;
  const Tensor sums = Tensor::empty({2, args.rows}, DType::f64, param.device());
  args.sums = sums.data<double>();
  run_kernel(&KernelTable::adafactor, param.device(), DType::f32, args);
}

void ema_step(const Tensor& average, const Tensor& value, double decay, const OptimizerScalarsTensor& scalars) {
  EmaArgs args{};
  args.average = flat_f32("ema", "average", average, average);
  args.value = flat_f32("ema", "value", value, average);
  args.count = average.numel();
  args.rate = static_cast<float>(1.0 - decay);
  if (scalars.bytes.defined()) args.scalars = scalars_of("ema", scalars, average);
  if (args.count > 0) run_kernel(&KernelTable::ema, average.device(), DType::f32, args);
}

void upload_learning_rate(const OptimizerScalarsTensor& scalars, float learning_rate) {
  const Device device = scalars.bytes.device();
  OptimizerScalars* const place = static_cast<OptimizerScalars*>(scalars.bytes.raw());
  backend(device.type).upload(&place->learning_rate, &learning_rate, sizeof(learning_rate), device);
}

void clip_gradient(const OptimizerScalarsTensor& scalars, const Tensor& losses, const Tensor& sum_squares,
                   double max_norm, bool stay) {
  constexpr const char* op = "clip_gradient";
  check_dtype(op, "losses", losses, DType::f32, scalars.bytes);
  check_contiguous(op, "losses", losses);
  check_dtype(op, "sum_squares", sum_squares, DType::f64, scalars.bytes);
  ONDOL_CHECK(sum_squares.numel() == 1, "[", op, "] sum_squares has shape ", sum_squares.shape());
  ClipGradientArgs args{losses.data<float>(), losses.numel(), sum_squares.data<double>(), max_norm, stay, nullptr};
  scalars_of(op, scalars, scalars.bytes);
  args.scalars = static_cast<OptimizerScalars*>(scalars.bytes.raw());
  run_kernel(&KernelTable::clip_gradient, scalars.bytes.device(), DType::f32, args);
}

void block_squares(const Tensor& out, const Tensor& x) {
  constexpr const char* op = "block_squares";
  ONDOL_CHECK(x.defined(), "[", op, "] x is undefined");
  check_dtype(op, "x", x, DType::f32, x);
  check_contiguous(op, "x", x);
  check_dtype(op, "out", out, DType::f64, x);
  check_contiguous(op, "out", out);
  const int64_t blocks = squares_blocks(x.numel());
  ONDOL_CHECK(out.numel() == blocks, "[", op, "] out has shape ", out.shape(), ", ", blocks, " blocks expected");
  if (blocks == 0) return;
  run_kernel(&KernelTable::block_squares, x.device(), DType::f32,
             BlockSquaresArgs{x.data<float>(), x.numel(), out.data<double>()});
}

void sum_all(const Tensor& out, const Tensor& x) {
  constexpr const char* op = "sum_all";
  ONDOL_CHECK(x.defined(), "[", op, "] x is undefined");
  check_dtype(op, "x", x, DType::f64, x);
  check_contiguous(op, "x", x);
  check_dtype(op, "out", out, DType::f64, x);
  ONDOL_CHECK(out.numel() == 1, "[", op, "] out has shape ", out.shape());
  run_kernel(&KernelTable::sum_all, x.device(), DType::f64,
             SumAllArgs{x.data<double>(), x.numel(), out.data<double>()});
}

Tensor sum_squares(const Tensor& x) {
  ONDOL_CHECK(x.defined(), "[sum_squares] x is undefined");
  const Tensor squares = Tensor::empty({squares_blocks(x.numel())}, DType::f64, x.device());
  const Tensor out = Tensor::empty({}, DType::f64, x.device());
  block_squares(squares, x.contiguous());
  sum_all(out, squares);
  return out;
}

}  // namespace ondol::ops
