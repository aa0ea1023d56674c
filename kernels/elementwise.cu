// binary, unary, unary_backward.
//
// Formula: out = a (+ - * /) b with broadcasting; out = f(in); grad_in = grad_out * f'(in).
// Layout: binary: any strides of a and b (0 broadcasts), out contiguous; the others contiguous.
// Mapping: one thread for each vector of 128 bits where all operands are contiguous and aligned, else for each element.
//          unary_backward with a bias gradient: 32 x 8 threads for kBiasRows rows (device/columns.cuh); the partial
//          sums of the blocks are added by a second kernel.
// Accumulation: f32, one rounding at the store; binary of f64: f64.
// Tuning: kThreads, kBiasRows, untuned: not run on a GPU yet.
#include <type_traits>

#include "column_sums.h"
#include "device/activation.cuh"
#include "device/columns.cuh"
#include "launch.h"
#include "nest.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBiasRows = 64;  // rows of a block

template <class C>
__device__ C apply_binary(BinaryKind kind, C a, C b) {
  switch (kind) {
    case BinaryKind::add:
      return a + b;
    case BinaryKind::sub:
      return a - b;
    case BinaryKind::mul:
      return a * b;
    case BinaryKind::div:
      return a / b;
  }
  return C{};
}

template <class T>
__global__ void binary_kernel(const T* a, const T* b, T* out, BinaryKind kind, Nest<2> nest) {
  const int64_t i = global_thread();
  if (i >= nest.count) return;
  const Offsets<2> at = offsets(nest, i);
  if constexpr (std::is_same_v<T, double>) {
    out[i] = apply_binary(kind, a[at.of[0]], b[at.of[1]]);
  } else {
    out[i] = from_float<T>(apply_binary(kind, to_float(a[at.of[0]]), to_float(b[at.of[1]])));
  }
}

template <class T>
__global__ void binary_wide_kernel(const T* a, const T* b, T* out, BinaryKind kind, int64_t count) {
  constexpr int kCount = kVector128<T>;
  const int64_t i = global_thread() * kCount;
  if (i + kCount <= count) {
    Floats<kCount> x = load_floats<kCount>(a + i);
    const Floats<kCount> y = load_floats<kCount>(b + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) x[j] = apply_binary(kind, x[j], y[j]);
    store_floats<kCount>(out + i, x);
  } else {
    for (int64_t j = i; j < count; ++j) out[j] = from_float<T>(apply_binary(kind, to_float(a[j]), to_float(b[j])));
  }
}

template <class T>
void binary(const BinaryArgs& args, Stream stream) {
  const Nest<2> nest = make_nest<2>(args.ndim, args.shape, {args.a_stride, args.b_stride});
  if (nest.count == 0) return;
  const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
  T* out = static_cast<T*>(args.out);
  if constexpr (!std::is_same_v<T, double>) {
    constexpr int kWide = kVector128<T>;
    if (nest.ndim == 1 && nest.stride[0][0] == 1 && nest.stride[1][0] == 1 && aligned(16, a, b, out)) {
      const unsigned blocks = blocks_for("binary", (nest.count + kWide - 1) / kWide, kThreads);
      return launch("binary", binary_wide_kernel<T>, blocks, kThreads, 0, stream, a, b, out, args.kind, nest.count);
    }
  }
  launch("binary", binary_kernel<T>, blocks_for("binary", nest.count, kThreads), kThreads, 0, stream, a, b, out,
         args.kind, nest);
}

__device__ float apply_unary(UnaryKind kind, float x, float parameter) {
  switch (kind) {
    case UnaryKind::relu:
      return relu(x);
    case UnaryKind::gelu_erf:
      return gelu_erf(x);
    case UnaryKind::gelu_tanh:
      return gelu_tanh(x);
    case UnaryKind::silu:
      return silu(x);
    case UnaryKind::tanh:
      return tanhf(x);
    case UnaryKind::sigmoid:
      return sigmoid(x);
    case UnaryKind::exp:
      return expf(x);
    case UnaryKind::log:
      return logf(x);
    case UnaryKind::sqrt:
      return sqrtf(x);
    case UnaryKind::square:
      return x * x;
    case UnaryKind::scale:
      return x * parameter;
    case UnaryKind::add_scalar:
      return x + parameter;
  }
  return 0.0f;
}

__device__ float unary_derivative(UnaryKind kind, float x, float parameter) {
  switch (kind) {
    case UnaryKind::relu:
      return relu_derivative(x);
    case UnaryKind::gelu_erf:
      return gelu_erf_derivative(x);
    case UnaryKind::gelu_tanh:
      return gelu_tanh_derivative(x);
    case UnaryKind::silu:
      return silu_derivative(x);
    case UnaryKind::tanh: {
      const float t = tanhf(x);
      return 1.0f - t * t;
    }
    case UnaryKind::sigmoid:
      return sigmoid_derivative(x);
    case UnaryKind::exp:
      return expf(x);
    case UnaryKind::log:
      return 1.0f / x;
    case UnaryKind::sqrt:
      return 0.5f / sqrtf(x);
    case UnaryKind::square:
      return 2.0f * x;
    case UnaryKind::scale:
      return parameter;
    case UnaryKind::add_scalar:
      return 1.0f;
  }
  return 0.0f;
}

/// kBackward: out = grad * f'(in), else out = f(in).
template <class T, int kCount, bool kBackward>
__global__ void unary_kernel(const T* grad, const T* in, T* out, int64_t count, UnaryKind kind, float parameter) {
  const int64_t i = global_thread() * kCount;
  const auto one = [&](float x, float g) {
    return kBackward ? g * unary_derivative(kind, x, parameter) : apply_unary(kind, x, parameter);
  };
  if (i + kCount <= count) {
    Floats<kCount> x = load_floats<kCount>(in + i);
    Floats<kCount> g{};
    if constexpr (kBackward) g = load_floats<kCount>(grad + i);
#pragma unroll
    for (int j = 0; j < kCount; ++j) x[j] = one(x[j], g[j]);
    store_floats<kCount>(out + i, x);
  } else {
    for (int64_t j = i; j < count; ++j) {
      out[j] = from_float<T>(one(to_float(in[j]), kBackward ? to_float(grad[j]) : 0.0f));
    }
  }
}

template <class T, bool kBackward>
void run_unary(const char* op, const void* grad, const void* in, void* out, int64_t count, UnaryKind kind,
               float parameter, Stream stream) {
  if (count == 0) return;
  constexpr int kWide = kVector128<T>;
  const bool wide = aligned(16, grad, in, out);
  const int64_t threads = wide ? (count + kWide - 1) / kWide : count;
  launch(op, wide ? unary_kernel<T, kWide, kBackward> : unary_kernel<T, 1, kBackward>,
         blocks_for(op, threads, kThreads), kThreads, 0, stream, static_cast<const T*>(grad), static_cast<const T*>(in),
         static_cast<T*>(out), count, kind, parameter);
}

template <class T>
void unary(const UnaryArgs& args, Stream stream) {
  run_unary<T, false>("unary", nullptr, args.in, args.out, args.count, args.kind, args.parameter, stream);
}

/// grad_in = grad * f'(in), and partial[part, c] = the sum of grad_in over the part's rows.
template <class T, int kCount>
__global__ void unary_bias_backward_kernel(UnaryBackwardArgs args, int64_t rows, int64_t tiles, float* partial) {
  constexpr int kColumns = kColumnThreads * kCount;
  SharedMemory shared;
  float* scratch = shared.take<float>(kSliceScratch<kCount>);
  const int64_t part = blockIdx.x / tiles;
  const int64_t first = (blockIdx.x - part * tiles) * kColumns;
  const int64_t c = first + column_lane() * kCount;
  const int64_t end = (part + 1) * kBiasRows < rows ? (part + 1) * kBiasRows : rows;
  Floats<kCount> sum{};
  if (c < args.cols) {
    for (int64_t row = part * kBiasRows + column_slice(); row < end; row += kColumnSlices) {
      const int64_t at = row * args.cols + c;
      const Floats<kCount> x = load_floats<kCount>(static_cast<const T*>(args.in) + at);
      Floats<kCount> g = load_floats<kCount>(static_cast<const T*>(args.grad_out) + at);
#pragma unroll
      for (int j = 0; j < kCount; ++j) {
        g[j] *= unary_derivative(args.kind, x[j], args.parameter);
        sum[j] += g[j];
      }
      store_floats<kCount>(static_cast<T*>(args.grad_in) + at, g);
    }
  }
  combine_slices<kCount>(sum, scratch, Sum{}, [&](int column, float result) {
    if (first + column < args.cols) partial[part * args.cols + first + column] = result;
  });
}

template <class T>
void unary_bias_backward(const UnaryBackwardArgs& args, Stream stream) {
  constexpr const char* op = "unary_backward";
  constexpr int kWide = kVector128<T>;
  const int64_t rows = args.count / args.cols, parts = (rows + kBiasRows - 1) / kBiasRows;
  const Workspace<float> partial(op, parts * args.cols, stream);
  if (parts > 0) {
    const bool wide = args.cols % kWide == 0 && aligned(16, args.grad_out, args.in, args.grad_in);
    const int64_t columns = kColumnThreads * (wide ? kWide : 1);
    const int64_t tiles = (args.cols + columns - 1) / columns;
    launch(op, wide ? unary_bias_backward_kernel<T, kWide> : unary_bias_backward_kernel<T, 1>,
           blocks_for(op, parts * tiles, 1), kColumnBlock,
           shared_bytes<float>(wide ? kSliceScratch<kWide> : kSliceScratch<1>), stream, args, rows, tiles,
           partial.data());
  }
  sum_partials(op, partial.data(), parts, args.cols, args.grad_bias, args.accumulate, stream);
}

template <class T>
void unary_backward(const UnaryBackwardArgs& args, Stream stream) {
  if (args.grad_bias != nullptr) return unary_bias_backward<T>(args, stream);
  run_unary<T, true>("unary_backward", args.grad_out, args.in, args.grad_in, args.count, args.kind, args.parameter,
                     stream);
}

}  // namespace

void add_elementwise_rows(KernelTable& table) {
  table.binary.set(DType::f32, binary<float>);
  table.binary.set(DType::bf16, binary<bfloat16>);
  table.binary.set(DType::f64, binary<double>);
  table.unary.set(DType::f32, unary<float>);
  table.unary.set(DType::bf16, unary<bfloat16>);
  table.unary_backward.set(DType::f32, unary_backward<float>);
  table.unary_backward.set(DType::bf16, unary_backward<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
