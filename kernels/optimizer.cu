// block_squares, sum_all, clip_gradient, adamw, sgd, lion and ema over flat f32 buffers. What changes every step is
// read from device memory.
//
// Formula: AdamW (Loshchilov & Hutter 2019): p *= 1 - lr wd; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
//          p -= lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps). SGD: g += wd p; u = mu u + g; p -= lr u, or
//          p -= lr (g + mu u) with Nesterov's momentum. g is multiplied by grad_scale first.
//          EMA: a += (1 - decay) (p - a). Lion (Chen et al. 2023): p -= lr (sign(b1 m + (1 - b1) g) + wd p);
//          m = b2 m + (1 - b2) g.
// Layout: flat, contiguous; low_precision receives the new parameter rounded to bf16 in the same pass.
// Mapping: adamw: one thread for four elements; sgd, lion, ema: one for each. block_squares: a warp for 256 elements,
// 128-bit loads where they are aligned. sum_all: a block of threads for each kPart elements, one for their sums.
// Accumulation: block_squares and sum_all in double, the one in an order that is the same for every block, the other in
// one that depends on the count alone; the bias corrections in double. Tuning: kThreads, kPart, untuned: not run on a
// GPU yet.
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 4;
constexpr int64_t kPart = 8192;

/// A lane of a block has its elements [4 lane, 4 lane + 4) and [128 + 4 lane, 128 + 4 lane + 4).
template <bool kAligned>
__global__ void block_squares_kernel(BlockSquaresArgs args) {
  constexpr int64_t kBlock = BlockSquaresArgs::kBlock;
  constexpr int64_t kStride = kWarpSize * kGroup;
  const int64_t block = global_thread() / kWarpSize;
  const int64_t begin = block * kBlock;
  if (begin >= args.count) return;  // whole warps
  double sum = 0.0;
#pragma unroll
  for (int64_t first = begin + lane_index() * kGroup; first < begin + kBlock; first += kStride) {
    Floats<kGroup> x;
    if (kAligned && first + kGroup <= args.count) {
      x = load_floats<kGroup>(args.in + first);
    } else {
#pragma unroll
      for (int j = 0; j < kGroup; ++j) x[j] = first + j < args.count ? args.in[first + j] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kGroup; ++j) {
      const double value = x[j];
      sum += value * value;
    }
  }
  sum = warp_reduce(sum, Sum{});
  if (lane_index() == 0) args.out[block] = sum;
}

void block_squares(const BlockSquaresArgs& args, Stream stream) {
  if (args.count == 0) return;
  constexpr int kPerLaunchBlock = kThreads / kWarpSize * static_cast<int>(BlockSquaresArgs::kBlock);
  launch("block_squares", aligned(16, args.in) ? block_squares_kernel<true> : block_squares_kernel<false>,
         blocks_for("block_squares", args.count, kPerLaunchBlock), kThreads, 0, stream, args);
}

/// A block of threads for the elements [part * index, part * (index + 1)).
__global__ void sum_kernel(const double* in, int64_t count, int64_t part, double* out) {
  SharedMemory shared;
  double* scratch = shared.take<double>(kReduceScratch);
  const int64_t begin = blockIdx.x * part;
  const int64_t end = begin + part < count ? begin + part : count;
  double sum = 0.0;
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) sum += in[i];
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

void sum_all(const SumAllArgs& args, Stream stream) {
  const char* op = "sum_all";
  const size_t scratch = shared_bytes<double>(kReduceScratch);
  if (args.count <= kPart)
    return launch(op, sum_kernel, 1, kThreads, scratch, stream, args.in, args.count, kPart, args.out);
  const unsigned parts = blocks_for(op, args.count, static_cast<int>(kPart));
  const Workspace<double> partial(op, parts, stream);
  launch(op, sum_kernel, parts, kThreads, scratch, stream, args.in, args.count, kPart, partial.data());
  launch(op, sum_kernel, 1, kThreads, scratch, stream, partial.data(), int64_t{parts}, int64_t{parts}, args.out);
}

__device__ bool is_finite(double value) { return value - value == 0.0; }

/// One thread: a few losses.
__global__ void clip_gradient_kernel(ClipGradientArgs args) {
  if (threadIdx.x != 0) return;
  const double norm = sqrt(*args.sum_squares);
  bool finite = is_finite(norm);
  for (int64_t i = 0; i < args.count; ++i) finite = finite && is_finite(args.losses[i]);
  OptimizerScalars s = *args.scalars;
  const bool clips = finite && args.max_norm > 0.0 && norm > args.max_norm;
  s.grad_scale = clips ? static_cast<float>(args.max_norm / (norm + 1e-6)) : 1.0f;
  s.skip = !finite || (args.stay && s.skip != 0) ? 1 : 0;
  if (finite) ++s.step;
  *args.scalars = s;
}

void clip_gradient(const ClipGradientArgs& args, Stream stream) {
  launch("clip_gradient", clip_gradient_kernel, 1, kWarpSize, 0, stream, args);
}

struct AdamwFactors {
  float learning_rate, grad_scale;
  float step_size;       // lr / (1 - b1^t)
  float inverse_root_v;  // 1 / sqrt(1 - b2^t)
  bool skip;
};

__device__ float adamw_update(const AdamwArgs& args, const AdamwFactors& f, float p, float g, float& m, float& v) {
  g *= f.grad_scale;
  p *= 1.0f - f.learning_rate * args.weight_decay;
  m = args.beta1 * m + (1.0f - args.beta1) * g;
  v = args.beta2 * v + (1.0f - args.beta2) * g * g;
  return p - f.step_size * (m / (sqrtf(v) * f.inverse_root_v + args.eps));
}

template <bool kAligned>
__global__ void adamw_kernel(AdamwArgs args) {
  SharedMemory shared;
  AdamwFactors* factors = shared.take<AdamwFactors>(1);
  if (threadIdx.x == 0) {
    const OptimizerScalars s = *args.scalars;
    const double t = static_cast<double>(s.step);
    factors->learning_rate = s.learning_rate * args.rate_scale;
    factors->grad_scale = s.grad_scale;
    factors->skip = s.skip != 0;
    factors->step_size = static_cast<float>(factors->learning_rate / (1.0 - pow(static_cast<double>(args.beta1), t)));
    factors->inverse_root_v = static_cast<float>(1.0 / sqrt(1.0 - pow(static_cast<double>(args.beta2), t)));
  }
  block_barrier();
  const AdamwFactors f = *factors;
  if (f.skip) return;
  const int64_t first = global_thread() * kGroup;
  if (kAligned && first + kGroup <= args.count) {
    Floats<kGroup> p = load_floats<kGroup>(args.param + first);
    Floats<kGroup> m = load_floats<kGroup>(args.exp_avg + first);
    Floats<kGroup> v = load_floats<kGroup>(args.exp_avg_sq + first);
    const Floats<kGroup> g = load_floats<kGroup>(args.grad + first);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) p[j] = adamw_update(args, f, p[j], g[j], m[j], v[j]);
    store_floats<kGroup>(args.param + first, p);
    store_floats<kGroup>(args.exp_avg + first, m);
    store_floats<kGroup>(args.exp_avg_sq + first, v);
    if (args.low_precision != nullptr) store_floats<kGroup>(args.low_precision + first, p);
    return;
  }
  for (int64_t i = first; i < first + kGroup && i < args.count; ++i) {
    args.param[i] = adamw_update(args, f, args.param[i], args.grad[i], args.exp_avg[i], args.exp_avg_sq[i]);
    if (args.low_precision != nullptr) args.low_precision[i] = from_float<bfloat16>(args.param[i]);
  }
}

void adamw(const AdamwArgs& args, Stream stream) {
  if (args.count == 0) return;
  const bool wide = aligned(16, args.param, args.grad, args.exp_avg, args.exp_avg_sq) &&
                    aligned(kGroup * sizeof(bfloat16), args.low_precision);
  launch("adamw", wide ? adamw_kernel<true> : adamw_kernel<false>,
         blocks_for("adamw", (args.count + kGroup - 1) / kGroup, kThreads), kThreads, shared_bytes<AdamwFactors>(1),
         stream, args);
}

__global__ void sgd_kernel(SgdArgs args) {
  const int64_t i = global_thread();
  if (i >= args.count) return;
  const OptimizerScalars s = *args.scalars;
  if (s.skip != 0) return;
  const float p = args.param[i];
  const float g = args.grad[i] * s.grad_scale + args.weight_decay * p;
  float direction = g;
  if (args.momentum_buffer != nullptr) {
    const float u = args.momentum * args.momentum_buffer[i] + g;
    args.momentum_buffer[i] = u;
    direction = args.nesterov ? g + args.momentum * u : u;
  }
  const float updated = p - s.learning_rate * args.rate_scale * direction;
  args.param[i] = updated;
  if (args.low_precision != nullptr) args.low_precision[i] = from_float<bfloat16>(updated);
}

void sgd(const SgdArgs& args, Stream stream) {
  if (args.count == 0) return;
  launch("sgd", sgd_kernel, blocks_for("sgd", args.count, kThreads), kThreads, 0, stream, args);
}

__global__ void lion_kernel(LionArgs args) {
  const int64_t i = global_thread();
  if (i >= args.count) return;
  const OptimizerScalars s = *args.scalars;
  if (s.skip != 0) return;
  const float rate = s.learning_rate * args.rate_scale;
  const float g = args.grad[i] * s.grad_scale, m = args.exp_avg[i];
  const float direction = args.beta1 * m + (1.0f - args.beta1) * g;
  const float sign = direction > 0.0f ? 1.0f : direction < 0.0f ? -1.0f : 0.0f;
  const float updated = args.param[i] * (1.0f - rate * args.weight_decay) - rate * sign;
  args.exp_avg[i] = args.beta2 * m + (1.0f - args.beta2) * g;
  args.param[i] = updated;
  if (args.low_precision != nullptr) args.low_precision[i] = from_float<bfloat16>(updated);
}

void lion(const LionArgs& args, Stream stream) {
  if (args.count == 0) return;
  launch("lion", lion_kernel, blocks_for("lion", args.count, kThreads), kThreads, 0, stream, args);
}

__global__ void ema_kernel(EmaArgs args) {
  if (args.scalars != nullptr && args.scalars->skip != 0) return;
  const int64_t i = global_thread();
  if (i >= args.count) return;
  const float average = args.average[i];
  args.average[i] = fmaf(args.rate, args.value[i] - average, average);
}

void ema(const EmaArgs& args, Stream stream) {
  if (args.count == 0) return;
  launch("ema", ema_kernel, blocks_for("ema", args.count, kThreads), kThreads, 0, stream, args);
}

}  // namespace

void add_optimizer_rows(KernelTable& table) {
  table.ema.set(DType::f32, ema);
  table.block_squares.set(DType::f32, block_squares);
  table.sum_all.set(DType::f64, sum_all);
  table.clip_gradient.set(DType::f32, clip_gradient);
  table.adamw.set(DType::f32, adamw);
  table.sgd.set(DType::f32, sgd);
  table.lion.set(DType::f32, lion);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
