// rms_norm_backward and layer_norm_backward.
//
// Formula: h = (x - m) * r, g = grad_out * w, grad_x = r * (g - mean(g) - h * mean(g * h)) + grad_sum, where mean(g) is
//          left out for RMSNorm; grad_weight = sum over rows of grad_out * h, grad_bias = sum over rows of grad_out.
// Layout: as in norm.cu; grad_weight and grad_bias (cols) f32.
// Mapping: stage 1: block b takes the rows [b * n, (b + 1) * n) one after the other, each thread every blockDim-th
//          vector; a thread adds up the weight gradients of its own columns in shared memory (or, for long rows, in its
//          part of the workspace). Stage 2: the partial sums (blocks, cols) are added up per column (column_sums.h).
// Accumulation: f32; the order depends on the shape alone.
// Tuning: kMaxThreads, kMaxBlocks, untuned: not run on a GPU yet.
#include "column_sums.h"
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kMaxThreads = 512;
constexpr int64_t kMaxBlocks = 264;

/// Where a block leaves its partial weight gradients; null pointers are not wanted.
struct Partials {
  float* weight;  // (blocks, cols)
  float* bias;    // (blocks, cols)
  bool in_shared;
};

template <class T, int kCount, bool kCentered>
__global__ void norm_backward_kernel(NormBackwardArgs args, Partials partials, int64_t rows_per_block) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  const int64_t cols = args.cols;
  float* weight_out = partials.weight == nullptr ? nullptr : partials.weight + blockIdx.x * cols;
  float* bias_out = partials.bias == nullptr ? nullptr : partials.bias + blockIdx.x * cols;
  float* weight_sum = weight_out != nullptr && partials.in_shared ? shared.take<float>(cols) : weight_out;
  float* bias_sum = bias_out != nullptr && partials.in_shared ? shared.take<float>(cols) : bias_out;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kCount;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kCount;
  for (int64_t c = first; c < cols; c += step) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (weight_sum != nullptr) weight_sum[c + i] = 0.0f;
      if (bias_sum != nullptr) bias_sum[c + i] = 0.0f;
    }
  }

  const T* weight = static_cast<const T*>(args.weight);
  const int64_t begin = blockIdx.x * rows_per_block;
  const int64_t end = begin + rows_per_block < args.rows ? begin + rows_per_block : args.rows;
  for (int64_t row = begin; row < end; ++row) {
    const T* x = static_cast<const T*>(args.x) + row * cols;
    const T* grad_out = static_cast<const T*>(args.grad_out) + row * cols;
    const float mean = kCentered ? args.mean[row] : 0.0f;
    const float rstd = args.rstd[row];

    float sum_g = 0.0f, sum_gh = 0.0f;
    for (int64_t c = first; c < cols; c += step) {
      const Floats<kCount> v = load_floats<kCount>(x + c);
      Floats<kCount> g = load_floats<kCount>(grad_out + c);
      Floats<kCount> h;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        h[i] = (v[i] - mean) * rstd;
        if (weight_sum != nullptr) weight_sum[c + i] += g[i] * h[i];
        if (bias_sum != nullptr) bias_sum[c + i] += g[i];
      }
      if (weight != nullptr) {
        const Floats<kCount> w = load_floats<kCount>(weight + c);
#pragma unroll
        for (int i = 0; i < kCount; ++i) g[i] *= w[i] + args.weight_offset;
      }
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        sum_g += g[i];
        sum_gh += g[i] * h[i];
      }
    }
    const float size = static_cast<float>(cols);
    const float mean_g = kCentered ? block_sum(sum_g, scratch) / size : 0.0f;
    const float mean_gh = block_sum(sum_gh, scratch) / size;

    const T* grad_sum = args.grad_sum == nullptr ? nullptr : static_cast<const T*>(args.grad_sum) + row * cols;
    T* grad_x = static_cast<T*>(args.grad_x) + row * cols;
    for (int64_t c = first; c < cols; c += step) {
      const Floats<kCount> v = load_floats<kCount>(x + c);
      Floats<kCount> g = load_floats<kCount>(grad_out + c);
      if (weight != nullptr) {
        const Floats<kCount> w = load_floats<kCount>(weight + c);
#pragma unroll
        for (int i = 0; i < kCount; ++i) g[i] *= w[i] + args.weight_offset;
      }
#pragma unroll
      for (int i = 0; i < kCount; ++i) g[i] = rstd * (g[i] - mean_g - (v[i] - mean) * rstd * mean_gh);
      if (grad_sum != nullptr) {
        const Floats<kCount> s = load_floats<kCount>(grad_sum + c);
#pragma unroll
        for (int i = 0; i < kCount; ++i) g[i] += s[i];
      }
      store_floats<kCount>(grad_x + c, g);
    }
  }

  if (!partials.in_shared) return;
  for (int64_t c = first; c < cols; c += step) {  // a thread's own columns again
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (weight_sum != nullptr) weight_out[c + i] = weight_sum[c + i];
      if (bias_sum != nullptr) bias_out[c + i] = bias_sum[c + i];
    }
  }
}

template <class T, bool kCentered>
void norm_backward(const NormBackwardArgs& args, Stream stream) {
  const char* op = kCentered ? "layer_norm_backward" : "rms_norm_backward";
  if (args.cols == 0) return;
  const int64_t rows_per_block = (args.rows + kMaxBlocks - 1) / kMaxBlocks;
  const int64_t blocks = args.rows == 0 ? 0 : (args.rows + rows_per_block - 1) / rows_per_block;
  const int64_t partial_count = blocks * args.cols;
  const Workspace<float> weight_partial(op, args.grad_weight == nullptr ? 0 : partial_count, stream);
  const Workspace<float> bias_partial(op, args.grad_bias == nullptr ? 0 : partial_count, stream);

  if (blocks > 0) {
    constexpr int kWide = kVector128<T>;
    const bool wide =
        args.cols % kWide == 0 && aligned(16, args.grad_out, args.grad_sum, args.x, args.weight, args.grad_x);
    const int threads = row_threads(wide ? args.cols / kWide : args.cols, kMaxThreads);
    const int wanted = (args.grad_weight != nullptr) + (args.grad_bias != nullptr);
    const size_t scratch_bytes = shared_bytes<float>(kReduceScratch);
    const size_t sums_bytes = static_cast<size_t>(wanted) * shared_bytes<float>(args.cols);
    const bool in_shared = wanted > 0 && scratch_bytes + sums_bytes <= kMaxSharedBytes;
    const Partials partials{weight_partial.data(), bias_partial.data(), in_shared};
    launch(op, wide ? norm_backward_kernel<T, kWide, kCentered> : norm_backward_kernel<T, 1, kCentered>,
           static_cast<unsigned>(blocks), threads, scratch_bytes + (in_shared ? sums_bytes : 0), stream, args, partials,
           rows_per_block);
  }
  const auto finish = [&](const Workspace<float>& partial, float* out) {
    if (out == nullptr) return;
    sum_partials(op, partial.data(), blocks, args.cols, out, args.accumulate, stream);
  };
  finish(weight_partial, args.grad_weight);
  finish(bias_partial, args.grad_bias);
}

}  // namespace

void add_norm_backward_rows(KernelTable& table) {
  table.rms_norm_backward.set(DType::f32, norm_backward<float, false>);
  table.rms_norm_backward.set(DType::bf16, norm_backward<bfloat16, false>);
  table.layer_norm_backward.set(DType::f32, norm_backward<float, true>);
  table.layer_norm_backward.set(DType::bf16, norm_backward<bfloat16, true>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
