// cross_entropy and cross_entropy_backward.
//
// Formula: lse[r] = log sum exp(logits[r, :]),
//          loss[r] = lse[r] - (1 - s) logits[r, label[r]] - s mean(logits[r, :]) (0 where ignored), s the smoothing;
//          grad_logits = (exp(logits - lse) - (1 - s) one_hot(label) - s / cols) * scale * grad_scale (0 where
//          ignored).
// Layout: logits (rows, cols) with a row stride; grad_logits may be logits.
// Mapping: forward: one block for each row, online maximum and sum, with smoothing a second pass for the mean.
// Backward:
//          the same, one pass.
// Accumulation: f32. A label outside [0, cols) gives NaN instead of a read outside the row.
// Tuning: kMaxThreads, untuned: not run on a GPU yet.
#include "device/softmax.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kMaxThreads = 1024;

template <class T, int kCount>
__global__ void cross_entropy_kernel(CrossEntropyArgs args) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  const int64_t row = blockIdx.x;
  const T* logits = static_cast<const T*>(args.logits) + row * args.row_stride;
  const float lse = softmax_statistics<kCount>(logits, args.cols, scratch).log_sum_exp();
  const float smoothing = args.label_smoothing;
  float sum = 0.0f;
  if (smoothing > 0.0f) {
    for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < args.cols;
         c += static_cast<int64_t>(blockDim.x) * kCount) {
      const Floats<kCount> v = load_floats<kCount>(logits + c);
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum += v[i];
    }
    sum = block_sum(sum, scratch);
  }
  if (threadIdx.x != 0) return;
  const int32_t label = args.labels[row];
  args.lse[row] = lse;
  if (label == args.ignore_index) {
    args.loss[row] = 0.0f;
  } else if (label >= 0 && label < args.cols) {
    const float at_label = to_float(logits[label]);
    args.loss[row] = lse - at_label;
    if (smoothing > 0.0f) args.loss[row] += smoothing * (at_label - sum / static_cast<float>(args.cols));
  } else {
    args.loss[row] = NAN;
  }
}

template <class T, int kCount>
__global__ void cross_entropy_backward_kernel(CrossEntropyBackwardArgs args) {
  const int64_t row = blockIdx.x;
  const T* logits = static_cast<const T*>(args.logits) + row * args.row_stride;
  T* grad_logits = static_cast<T*>(args.grad_logits) + row * args.grad_row_stride;
  const int32_t label = args.labels[row];
  const bool ignored = label == args.ignore_index;
  const float lse = args.lse[row];
  float scale = args.grad_scale == nullptr ? args.scale : args.scale * *args.grad_scale;
  if (!ignored && (label < 0 || label >= args.cols)) scale = NAN;
  const float wanted = 1.0f - args.label_smoothing, share = args.label_smoothing / static_cast<float>(args.cols);
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * kCount; c < args.cols;
       c += static_cast<int64_t>(blockDim.x) * kCount) {
    Floats<kCount> v{};
    if (!ignored) {
      v = load_floats<kCount>(logits + c);
#pragma unroll
      for (int i = 0; i < kCount; ++i) v[i] = (expf(v[i] - lse) - (c + i == label ? wanted + share : share)) * scale;
    }
    store_floats<kCount>(grad_logits + c, v);
  }
}

template <class T>
void cross_entropy(const CrossEntropyArgs& args, Stream stream) {
  if (args.rows == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide = args.cols % kWide == 0 && args.row_stride % kWide == 0 && aligned(16, args.logits);
  launch("cross_entropy", wide ? cross_entropy_kernel<T, kWide> : cross_entropy_kernel<T, 1>,
         blocks_for("cross_entropy", args.rows, 1), row_threads(wide ? args.cols / kWide : args.cols, kMaxThreads),
         shared_bytes<float>(kReduceScratch), stream, args);
}

template <class T>
void cross_entropy_backward(const CrossEntropyBackwardArgs& args, Stream stream) {
  if (args.rows == 0 || args.cols == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide = args.cols % kWide == 0 && args.row_stride % kWide == 0 && args.grad_row_stride % kWide == 0 &&
                    aligned(16, args.logits, args.grad_logits);
  launch("cross_entropy_backward", wide ? cross_entropy_backward_kernel<T, kWide> : cross_entropy_backward_kernel<T, 1>,
         blocks_for("cross_entropy_backward", args.rows, 1),
         row_threads(wide ? args.cols / kWide : args.cols, kMaxThreads), 0, stream, args);
}

}  // namespace

void add_loss_rows(KernelTable& table) {
  table.cross_entropy.set(DType::f32, cross_entropy<float>);
  table.cross_entropy.set(DType::bf16, cross_entropy<bfloat16>);
  table.cross_entropy_backward.set(DType::f32, cross_entropy_backward<float>);
  table.cross_entropy_backward.set(DType::bf16, cross_entropy_backward<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
