// adamw, sgd, lion, ema: one pass over flat f32 buffers, with the bf16 copy of the parameters written on the way.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

constexpr int64_t kGrain = 8192;

void clip_gradient(const ClipGradientArgs& args, Stream) {
  const double norm = __builtin_sqrt(*args.sum_squares);
  bool finite = __builtin_isfinite(norm);
  for (int64_t i = 0; i < args.count; ++i) finite = finite && __builtin_isfinite(args.losses[i]);
  OptimizerScalars& s = *args.scalars;
  const bool clips = finite && args.max_norm > 0.0 && norm > args.max_norm;
  s.grad_scale = clips ? static_cast<float>(args.max_norm / (norm + 1e-6)) : 1.0f;
  s.skip = !finite || (args.stay && s.skip != 0);
  if (finite) ++s.step;
}

void adamw(const AdamwArgs& args, Stream) {
  if (args.scalars->skip != 0) return;
  const double lr = static_cast<double>(args.scalars->learning_rate) * args.rate_scale;
  const double step = static_cast<double>(args.scalars->step);
  const double correction1 = 1.0 - __builtin_pow(static_cast<double>(args.beta1), step);
  const double correction2 = 1.0 - __builtin_pow(static_cast<double>(args.beta2), step);
  const Floats grad_scale = splat(args.scalars->grad_scale);
  const Floats keep = splat(static_cast<float>(1.0 - lr * args.weight_decay));
  const Floats one_minus_beta1 = splat(static_cast<float>(1.0 - static_cast<double>(args.beta1)));
  const Floats beta2 = splat(args.beta2);
  const Floats one_minus_beta2 = splat(static_cast<float>(1.0 - static_cast<double>(args.beta2)));
  const Floats step_size = splat(static_cast<float>(lr / correction1));
  const Floats root_factor = splat(static_cast<float>(1.0 / __builtin_sqrt(correction2)));
  const Floats eps = splat(args.eps);
  parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
    for_each_vector(begin, end, [&](int64_t i, auto n) {
      const Floats g = load_lanes(args.grad + i, n) * grad_scale;
      const Floats old_m = load_lanes(args.exp_avg + i, n);
      const Floats m = fma(g - old_m, one_minus_beta1, old_m);
      const Floats v = fma(g * one_minus_beta2, g, load_lanes(args.exp_avg_sq + i, n) * beta2);
      const Floats denominator = fma(sqrt(v), root_factor, eps);
      const Floats p = load_lanes(args.param + i, n) * keep - step_size * (m / denominator);
      store_lanes(args.exp_avg + i, m, n);
      store_lanes(args.exp_avg_sq + i, v, n);
      store_lanes(args.param + i, p, n);
      if (args.low_precision != nullptr) store_lanes(args.low_precision + i, p, n);
    });
  });
}

void sgd(const SgdArgs& args, Stream) {
  if (args.scalars->skip != 0) return;
  const Floats lr = splat(args.scalars->learning_rate * args.rate_scale), grad_scale = splat(args.scalars->grad_scale);
  const Floats decay = splat(args.weight_decay), momentum = splat(args.momentum);
  parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
    for_each_vector(begin, end, [&](int64_t i, auto n) {
      const Floats old = load_lanes(args.param + i, n);
      Floats g = fma(old, decay, load_lanes(args.grad + i, n) * grad_scale);
      if (args.momentum_buffer != nullptr) {
        const Floats buffer = fma(load_lanes(args.momentum_buffer + i, n), momentum, g);
        store_lanes(args.momentum_buffer + i, buffer, n);
        g = args.nesterov ? fma(buffer, momentum, g) : buffer;
      }
      const Floats p = old - lr * g;
      store_lanes(args.param + i, p, n);
      if (args.low_precision != nullptr) store_lanes(args.low_precision + i, p, n);
    });
  });
}

void lion(const LionArgs& args, Stream) {
  if (args.scalars->skip != 0) return;
  const float rate = args.scalars->learning_rate * args.rate_scale;
  const float grad_scale = args.scalars->grad_scale, keep = 1.0f - rate * args.weight_decay;
  parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float g = args.grad[i] * grad_scale, m = args.exp_avg[i];
      const float direction = args.beta1 * m + (1.0f - args.beta1) * g;
      const float sign = static_cast<float>(direction > 0.0f) - static_cast<float>(direction < 0.0f);
      const float p = args.param[i] * keep - rate * sign;
      args.exp_avg[i] = args.beta2 * m + (1.0f - args.beta2) * g;
      args.param[i] = p;
      if (args.low_precision != nullptr) args.low_precision[i] = bfloat16(p);
    }
  });
}

void ema(const EmaArgs& args, Stream) {
  if (args.scalars != nullptr && args.scalars->skip != 0) return;
  const Floats rate = splat(args.rate);
  parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
    for_each_vector(begin, end, [&](int64_t i, auto n) {
      const Floats average = load_lanes(args.average + i, n);
      store_lanes(args.average + i, fma(rate, load_lanes(args.value + i, n) - average, average), n);
    });
  });
}

}  // namespace

void add_optimizer_rows(KernelTable& table) {
  table.ema.set(DType::f32, ema);
  table.clip_gradient.set(DType::f32, clip_gradient);
  table.adamw.set(DType::f32, adamw);
  table.sgd.set(DType::f32, sgd);
  table.lion.set(DType::f32, lion);
}

}  // namespace ondol::cpu::ONDOL_ISA
