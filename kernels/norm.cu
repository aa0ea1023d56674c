// rms_norm and layer_norm, with an optional residual added in the same pass.
//
// Formula: s = x + residual (rounded to the data type), r = 1 / sqrt(mean((s - m)^2) + eps), out = (s - m) * r * w + b,
//          m = mean(s) for LayerNorm and 0 for RMSNorm; w includes weight_offset.
// Layout: x, residual, sum, out (rows, cols) contiguous; weight, bias (cols); mean, rstd (rows).
// Mapping: one block for each row, each thread takes every blockDim-th vector of the row. The row is read again for
// each
//          statistic and for the output; it stays in the first-level cache.
// Accumulation: f32, two passes for the variance of LayerNorm.
// Tuning: kMaxThreads, untuned: not run on a GPU yet.
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kMaxThreads = 512;

template <class T, int kCount, bool kCentered>
__global__ void norm_kernel(NormArgs args) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  const int64_t row = blockIdx.x;
  const int64_t offset = row * args.cols;
  const T* x = static_cast<const T*>(args.x) + offset;
  const T* residual = args.residual == nullptr ? nullptr : static_cast<const T*>(args.residual) + offset;
  T* sum = residual == nullptr ? nullptr : static_cast<T*>(args.sum) + offset;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kCount;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kCount;

  float total = 0.0f;  // of s, or of s^2 for RMSNorm
  for (int64_t c = first; c < args.cols; c += step) {
    Floats<kCount> v = load_floats<kCount>(x + c);
    if (residual != nullptr) {
      const Floats<kCount> r = load_floats<kCount>(residual + c);
#pragma unroll
      for (int i = 0; i < kCount; ++i) v[i] = rounded<T>(v[i] + r[i]);
      store_floats<kCount>(sum + c, v);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) total += kCentered ? v[i] : v[i] * v[i];
  }
  total = block_sum(total, scratch);

  // Every thread reads back only what it wrote itself.
  const T* s = residual == nullptr ? x : sum;
  const float size = static_cast<float>(args.cols);
  float mean = 0.0f;
  float variance = total / size;
  if constexpr (kCentered) {
    mean = total / size;
    float squares = 0.0f;
    for (int64_t c = first; c < args.cols; c += step) {
      const Floats<kCount> v = load_floats<kCount>(s + c);
#pragma unroll
      for (int i = 0; i < kCount; ++i) squares += (v[i] - mean) * (v[i] - mean);
    }
    variance = block_sum(squares, scratch) / size;
  }
  const float rstd = 1.0f / sqrtf(variance + args.eps);
  if (threadIdx.x == 0) {
    if (kCentered && args.mean != nullptr) args.mean[row] = mean;
    if (args.rstd != nullptr) args.rstd[row] = rstd;
  }

  const T* weight = static_cast<const T*>(args.weight);
  const T* bias = static_cast<const T*>(args.bias);
  T* out = static_cast<T*>(args.out) + offset;
  for (int64_t c = first; c < args.cols; c += step) {
    Floats<kCount> v = load_floats<kCount>(s + c);
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = (v[i] - mean) * rstd;
    if (weight != nullptr) {
      const Floats<kCount> w = load_floats<kCount>(weight + c);
#pragma unroll
      for (int i = 0; i < kCount; ++i) v[i] *= w[i] + args.weight_offset;
    }
    if (bias != nullptr) {
      const Floats<kCount> b = load_floats<kCount>(bias + c);
#pragma unroll
      for (int i = 0; i < kCount; ++i) v[i] += b[i];
    }
    store_floats<kCount>(out + c, v);
  }
}

template <class T, bool kCentered>
void norm(const NormArgs& args, Stream stream) {
  if (args.rows == 0 || args.cols == 0) return;
  const char* op = kCentered ? "layer_norm" : "rms_norm";
  constexpr int kWide = kVector128<T>;
  const bool wide =
      args.cols % kWide == 0 && aligned(16, args.x, args.residual, args.sum, args.weight, args.bias, args.out);
  const int threads = row_threads(wide ? args.cols / kWide : args.cols, kMaxThreads);
  launch(op, wide ? norm_kernel<T, kWide, kCentered> : norm_kernel<T, 1, kCentered>, blocks_for(op, args.rows, 1),
         threads, shared_bytes<float>(kReduceScratch), stream, args);
}

}  // namespace

void add_norm_rows(KernelTable& table) {
  table.rms_norm.set(DType::f32, norm<float, false>);
  table.rms_norm.set(DType::bf16, norm<bfloat16, false>);
  table.layer_norm.set(DType::f32, norm<float, true>);
  table.layer_norm.set(DType::bf16, norm<bfloat16, true>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
