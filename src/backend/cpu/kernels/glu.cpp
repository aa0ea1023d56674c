// glu, glu_backward: act(gate) * up in one pass.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/activations.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

constexpr int64_t kBlockCols = 2048;
constexpr int64_t kGrain = 8192;

/// body(row, column begin, column end): pieces of rows, shared between threads.
template <class Body>
void for_each_piece(int64_t rows, int64_t cols, const Body& body) {
  const int64_t blocks = (cols + kBlockCols - 1) / kBlockCols;
  const int64_t block_cols = cols < kBlockCols ? cols : kBlockCols;
  if (rows == 0 || cols == 0) return;
  parallel_for(rows * blocks, kGrain / block_cols + 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece % blocks * kBlockCols;
      body(piece / blocks, first, first + kBlockCols < cols ? first + kBlockCols : cols);
    }
  });
}

template <class T, class Act>
void forward(const GluArgs& args) {
  for_each_piece(args.rows, args.cols, [&](int64_t row, int64_t begin, int64_t end) {
    const T* gate = static_cast<const T*>(args.gate) + row * args.in_row_stride;
    const T* up = static_cast<const T*>(args.up) + row * args.in_row_stride;
    T* out = static_cast<T*>(args.out) + row * args.cols;
    for_each_vector(begin, end, [&](int64_t i, auto n) {
      store_lanes(out + i, Act::value(load_lanes(gate + i, n)) * load_lanes(up + i, n), n);
    });
  });
}

template <class T, class Act>
void backward(const GluBackwardArgs& args) {
  for_each_piece(args.rows, args.cols, [&](int64_t row, int64_t begin, int64_t end) {
    const T* grad_out = static_cast<const T*>(args.grad_out) + row * args.cols;
    const T* gate = static_cast<const T*>(args.gate) + row * args.in_row_stride;
    const T* up = static_cast<const T*>(args.up) + row * args.in_row_stride;
    T* grad_gate = static_cast<T*>(args.grad_gate) + row * args.grad_row_stride;
    T* grad_up = static_cast<T*>(args.grad_up) + row * args.grad_row_stride;
    for_each_vector(begin, end, [&](int64_t i, auto n) {
      const Floats g = load_lanes(grad_out + i, n), x = load_lanes(gate + i, n), u = load_lanes(up + i, n);
      store_lanes(grad_gate + i, g * u * Act::derivative(x), n);
      store_lanes(grad_up + i, g * Act::value(x), n);
    });
  });
}

template <class T>
void glu(const GluArgs& args, Stream) {
  switch (args.kind) {
    case GluKind::silu:
      return forward<T, Silu>(args);
    case GluKind::gelu_tanh:
      return forward<T, GeluTanh>(args);
    case GluKind::gelu_erf:
      return forward<T, GeluErf>(args);
    case GluKind::relu:
      return forward<T, Relu>(args);
    case GluKind::sigmoid:
      return forward<T, Sigmoid>(args);
  }
}

template <class T>
void glu_backward(const GluBackwardArgs& args, Stream) {
  switch (args.kind) {
    case GluKind::silu:
      return backward<T, Silu>(args);
    case GluKind::gelu_tanh:
      return backward<T, GeluTanh>(args);
    case GluKind::gelu_erf:
      return backward<T, GeluErf>(args);
    case GluKind::relu:
      return backward<T, Relu>(args);
    case GluKind::sigmoid:
      return backward<T, Sigmoid>(args);
  }
}

}  // namespace

void add_glu_rows(KernelTable& table) {
  table.glu.set(DType::f32, glu<float>);
  table.glu.set(DType::bf16, glu<bfloat16>);
  table.glu_backward.set(DType::f32, glu_backward<float>);
  table.glu_backward.set(DType::bf16, glu_backward<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
