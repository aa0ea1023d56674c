// Optimizer updates over flat buffers and the norm of the gradient.
//
//   ops::adamw_step({params, params_bf16, grads, m, v}, {.weight_decay = 0.1f}, scalars);
#pragma once

#include <ondol/tensor/tensor.h>

namespace ondol::ops {

/// What changes each step, kept on the device: learning rate, clipping factor, number of the update, and whether the
/// update is left out.
struct OptimizerScalarsTensor {
  Tensor bytes;  // u8, the size of the kernel's struct
};
OptimizerScalarsTensor make_optimizer_scalars(Device device);
/// grad_scale multiplies every gradient (the clipping factor); step counts from 1, 0 before the first update.
void set_optimizer_scalars(const OptimizerScalarsTensor& scalars, float learning_rate, float grad_scale, int64_t step);
/// The learning rate alone, for the updates that are started from now on; does not wait for the device.
void upload_learning_rate(const OptimizerScalarsTensor& scalars, float learning_rate);

/// Decides about the next update without the host: the clipping factor that brings the norm within max_norm (0: none),
/// as torch.nn.utils.clip_grad_norm_, and the number of the update; or, when the norm or one of the losses (f32) is not
/// finite, that it is left out. `stay`: all later ones are left out too. sum_squares is what ops::sum_squares gives.
void clip_gradient(const OptimizerScalarsTensor& scalars, const Tensor& losses, const Tensor& sum_squares,
                   double max_norm, bool stay);

struct AdamwState {
  Tensor param;          // f32, flat: master weights
  Tensor low_precision;  // bf16 copy written in the same pass; undefined in f32 runs
  Tensor grad;           // f32
  Tensor exp_avg, exp_avg_sq;
};
struct AdamwOptions {
  float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, weight_decay = 0.01f;
  float rate_scale = 1.0f;  // times the learning rate
};
/// torch.optim.AdamW: decoupled decay, bias correction.
void adamw_step(const AdamwState& state, const AdamwOptions& options, const OptimizerScalarsTensor& scalars);

struct SgdState {
  Tensor param, low_precision, grad;
  Tensor momentum_buffer;  // undefined when momentum is 0
};
struct SgdOptions {
  float momentum = 0.0f, weight_decay = 0.0f;
  bool nesterov = false;
  float rate_scale = 1.0f;
};
/// torch.optim.SGD.
void sgd_step(const SgdState& state, const SgdOptions& options, const OptimizerScalarsTensor& scalars);

struct LionState {
  Tensor param, low_precision, grad;
  Tensor exp_avg;
};
struct LionOptions {
  float beta1 = 0.9f, beta2 = 0.99f, weight_decay = 0.0f, rate_scale = 1.0f;
};
/// Lion (Chen et al. 2023).
void lion_step(const LionState& state, const LionOptions& options, const OptimizerScalarsTensor& scalars);

/// LAMB (You et al. 2020) of one tensor, a matrix (rows, cols) or a vector: the shape is that of `param`.
void lamb_step(const AdamwState& state, const AdamwOptions& options, const OptimizerScalarsTensor& scalars);

struct AdafactorState {
  Tensor param, low_precision, grad;  // of one matrix (rows, cols) or vector
  Tensor row, column;                 // (rows) and (cols); of a vector `row` (cols) alone
  Tensor exp_avg;                     // like param; undefined without beta1
};
struct AdafactorOptions {
  float eps1 = 1e-30f, eps2 = 1e-3f, clip_threshold = 1.0f, decay_rate = -0.8f;
  float beta1 = 0.0f, weight_decay = 0.0f, rate_scale = 1.0f;
  bool scale_parameter = true, relative_step = true, warmup_init = false;
};
/// Adafactor (Shazeer & Stern 2018) with the settings and the order of transformers.Adafactor.
void adafactor_step(const AdafactorState& state, const AdafactorOptions& options,
                    const OptimizerScalarsTensor& scalars);

/// average += (1 - decay) (value - average), in place; f32, contiguous, one size. Left out where the scalars say that
/// the update was.
void ema_step(const Tensor& average, const Tensor& value, double decay, const OptimizerScalarsTensor& scalars = {});

/// Sums of squares of a flat f32 tensor by block of 256 elements, each in f64 and in the same fixed order wherever the
/// block lies: out (squares_blocks(n)), f64. Processes that hold whole blocks each compute their own, and sum_all of
/// all of them is the same as in one process.
void block_squares(const Tensor& out, const Tensor& x);
constexpr int64_t squares_blocks(int64_t elements) { return (elements + 255) / 256; }
/// out (one element) = the sum of an f64 tensor, in an order that follows from its size.
void sum_all(const Tensor& out, const Tensor& x);

/// Sum of the squares of an f32 tensor as one f64 element, sum_all of its block_squares; not finite when an element is
/// not.
Tensor sum_squares(const Tensor& x);

}  // namespace ondol::ops
