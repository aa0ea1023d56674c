// glu and glu_backward: gated linear units (Shazeer 2020).
//
// Formula: out = act(gate) * up; grad_gate = grad_out * up * act'(gate), grad_up = grad_out * act(gate).
// Layout: gate, up (rows, cols) with a common row stride, out and grad_out contiguous, grad_gate and grad_up with
//         grad_row_stride.
// Mapping: one thread for each vector of a row; a block takes consecutive vectors of all rows.
// Accumulation: f32 throughout; one rounding at the store.
// Tuning: kThreads, untuned: not run on a GPU yet.
#include "device/activation.cuh"
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;

template <class T, int kCount>
__global__ void glu_kernel(GluArgs args) {
  const int64_t vectors = args.cols / kCount;
  const int64_t index = global_thread();
  const int64_t row = index / vectors;
  if (row >= args.rows) return;
  const int64_t col = (index - row * vectors) * kCount;
  const Floats<kCount> gate = load_floats<kCount>(static_cast<const T*>(args.gate) + row * args.in_row_stride + col);
  const Floats<kCount> up = load_floats<kCount>(static_cast<const T*>(args.up) + row * args.in_row_stride + col);
  Floats<kCount> out;
#pragma unroll
  for (int i = 0; i < kCount; ++i) out[i] = glu_activation(args.kind, gate[i]) * up[i];
  store_floats<kCount>(static_cast<T*>(args.out) + row * args.cols + col, out);
}

template <class T, int kCount>
__global__ void glu_backward_kernel(GluBackwardArgs args) {
  const int64_t vectors = args.cols / kCount;
  const int64_t index = global_thread();
  const int64_t row = index / vectors;
  if (row >= args.rows) return;
  const int64_t col = (index - row * vectors) * kCount;
  const Floats<kCount> gate = load_floats<kCount>(static_cast<const T*>(args.gate) + row * args.in_row_stride + col);
  const Floats<kCount> up = load_floats<kCount>(static_cast<const T*>(args.up) + row * args.in_row_stride + col);
  const Floats<kCount> grad = load_floats<kCount>(static_cast<const T*>(args.grad_out) + row * args.cols + col);
  Floats<kCount> grad_gate, grad_up;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    grad_gate[i] = grad[i] * up[i] * glu_derivative(args.kind, gate[i]);
    grad_up[i] = grad[i] * glu_activation(args.kind, gate[i]);
  }
  store_floats<kCount>(static_cast<T*>(args.grad_gate) + row * args.grad_row_stride + col, grad_gate);
  store_floats<kCount>(static_cast<T*>(args.grad_up) + row * args.grad_row_stride + col, grad_up);
}

template <class T>
void glu(const GluArgs& args, Stream stream) {
  if (args.rows == 0 || args.cols == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide =
      args.cols % kWide == 0 && args.in_row_stride % kWide == 0 && aligned(16, args.gate, args.up, args.out);
  const int64_t count = args.rows * (wide ? args.cols / kWide : args.cols);
  launch("glu", wide ? glu_kernel<T, kWide> : glu_kernel<T, 1>, blocks_for("glu", count, kThreads), kThreads, 0, stream,
         args);
}

template <class T>
void glu_backward(const GluBackwardArgs& args, Stream stream) {
  if (args.rows == 0 || args.cols == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide = args.cols % kWide == 0 && args.in_row_stride % kWide == 0 && args.grad_row_stride % kWide == 0 &&
                    aligned(16, args.grad_out, args.gate, args.up, args.grad_gate, args.grad_up);
  const int64_t count = args.rows * (wide ? args.cols / kWide : args.cols);
  launch("glu_backward", wide ? glu_backward_kernel<T, kWide> : glu_backward_kernel<T, 1>,
         blocks_for("glu_backward", count, kThreads), kThreads, 0, stream, args);
}

}  // namespace

void add_glu_rows(KernelTable& table) {
  table.glu.set(DType::f32, glu<float>);
  table.glu.set(DType::bf16, glu<bfloat16>);
  table.glu_backward.set(DType::f32, glu_backward<float>);
  table.glu_backward.set(DType::bf16, glu_backward<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
