// softmax, log_softmax and their backward.
//
// Formula: p = exp(x - max) / sum exp(x - max), or its logarithm x - max - log(sum);
//          grad_in = p * (g - sum(g * p)), for the logarithm g - exp(out) * sum(g).
// Layout: (rows, cols) contiguous; in may be out.
// Mapping: one block for each row, each thread every blockDim-th vector; the row is read once for maximum and sum
//          (online), once more for the output.
// Accumulation: f32.
// Tuning: kMaxThreads, untuned: not run on a GPU yet.
#include "device/softmax.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kMaxThreads = 512;

template <class T, int kCount>
__global__ void softmax_kernel(SoftmaxArgs args) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  const int64_t offset = blockIdx.x * args.cols;
  const T* in = static_cast<const T*>(args.in) + offset;
  T* out = static_cast<T*>(args.out) + offset;
  const SoftmaxStatistics s = softmax_statistics<kCount>(in, args.cols, scratch);
  const float factor = 1.0f / s.sum;
  const float log_sum = logf(s.sum);
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < args.cols;
       c += static_cast<int64_t>(blockDim.x) * kCount) {
    Floats<kCount> v = load_floats<kCount>(in + c);
#pragma unroll
    for (int i = 0; i < kCount; ++i) v[i] = args.log ? v[i] - s.max - log_sum : expf(v[i] - s.max) * factor;
    store_floats<kCount>(out + c, v);
  }
}

template <class T, int kCount>
__global__ void softmax_backward_kernel(SoftmaxBackwardArgs args) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  const int64_t offset = blockIdx.x * args.cols;
  const T* grad_out = static_cast<const T*>(args.grad_out) + offset;
  const T* out = static_cast<const T*>(args.out) + offset;
  T* grad_in = static_cast<T*>(args.grad_in) + offset;
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kCount;
  const int64_t step = static_cast<int64_t>(blockDim.x) * kCount;
  float sum = 0.0f;
  for (int64_t c = first; c < args.cols; c += step) {
    const Floats<kCount> g = load_floats<kCount>(grad_out + c);
    const Floats<kCount> p = load_floats<kCount>(out + c);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += args.log ? g[i] : g[i] * p[i];
  }
  sum = block_sum(sum, scratch);
  for (int64_t c = first; c < args.cols; c += step) {
    Floats<kCount> g = load_floats<kCount>(grad_out + c);
    const Floats<kCount> p = load_floats<kCount>(out + c);
#pragma unroll
    for (int i = 0; i < kCount; ++i) g[i] = args.log ? g[i] - expf(p[i]) * sum : p[i] * (g[i] - sum);
    store_floats<kCount>(grad_in + c, g);
  }
}

template <class T>
void softmax(const SoftmaxArgs& args, Stream stream) {
  if (args.rows == 0 || args.cols == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide = args.cols % kWide == 0 && aligned(16, args.in, args.out);
  launch("softmax", wide ? softmax_kernel<T, kWide> : softmax_kernel<T, 1>, blocks_for("softmax", args.rows, 1),
         row_threads(wide ? args.cols / kWide : args.cols, kMaxThreads), shared_bytes<float>(kReduceScratch), stream,
         args);
}

template <class T>
void softmax_backward(const SoftmaxBackwardArgs& args, Stream stream) {
  if (args.rows == 0 || args.cols == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide = args.cols % kWide == 0 && aligned(16, args.grad_out, args.out, args.grad_in);
  launch("softmax_backward", wide ? softmax_backward_kernel<T, kWide> : softmax_backward_kernel<T, 1>,
         blocks_for("softmax_backward", args.rows, 1), row_threads(wide ? args.cols / kWide : args.cols, kMaxThreads),
         shared_bytes<float>(kReduceScratch), stream, args);
}

}  // namespace

void add_softmax_rows(KernelTable& table) {
  table.softmax.set(DType::f32, softmax<float>);
  table.softmax.set(DType::bf16, softmax<bfloat16>);
  table.softmax_backward.set(DType::f32, softmax_backward<float>);
  table.softmax_backward.set(DType::bf16, softmax_backward<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
