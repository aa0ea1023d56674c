// binary: add, sub, mul, div with broadcasting.
#include "backend/cpu/kernels/nest.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

constexpr int64_t kGrain = 16384;

/// One operand of a run: contiguous, one repeated value, or strided.
template <class T>
struct Operand {
  const T* data;
  int64_t stride;

  template <class Lanes>
  Floats get(int64_t i, Lanes n) const {
    if (stride == 1) return load_lanes(data + i, n);
    if (stride == 0) return splat(static_cast<float>(data[0]));
    return gather(i, n);
  }
  Floats gather(int64_t i, SomeLanes n) const {
    float values[kLanes] = {};
    for (int64_t lane = 0; lane < n.count; ++lane) values[lane] = static_cast<float>(data[(i + lane) * stride]);
    return load(values);
  }
  Floats gather(int64_t i, AllLanes) const { return gather(i, SomeLanes{kLanes}); }
};

/// Over a, b and out, which is contiguous.
Nest<3> nest_of(const BinaryArgs& args) {
  int64_t out_stride[kMaxDims];
  int64_t dense = 1;
  for (int d = args.ndim - 1; d >= 0; --d) {
    out_stride[d] = dense;
    dense *= args.shape[d];
  }
  return Nest<3>(args.ndim, args.shape, {args.a_stride, args.b_stride, out_stride});
}

template <class T, class Function>
void run_binary(const BinaryArgs& args, Function function) {
  const Nest<3> nest = nest_of(args);
  const T* a = static_cast<const T*>(args.a);
  const T* b = static_cast<const T*>(args.b);
  T* out = static_cast<T*>(args.out);
  const int64_t a_stride = nest.stride[0][nest.ndim - 1], b_stride = nest.stride[1][nest.ndim - 1];
  nest.for_each_run(kGrain, [&](const int64_t* offsets, int64_t count) {
    const T* left = a + offsets[0];
    const T* right = b + offsets[1];
    T* to = out + offsets[2];
    if (a_stride == 1 && b_stride == 1) {
      for_each_vector(count, [&](int64_t i, auto n) {
        store_lanes(to + i, function(load_lanes(left + i, n), load_lanes(right + i, n)), n);
      });
    } else {
      const Operand<T> x{left, a_stride}, y{right, b_stride};
      for_each_vector(count, [&](int64_t i, auto n) { store_lanes(to + i, function(x.get(i, n), y.get(i, n)), n); });
    }
  });
}

template <class T>
void binary(const BinaryArgs& args, Stream) {
  switch (args.kind) {
    case BinaryKind::add:
      return run_binary<T>(args, [](Floats a, Floats b) { return a + b; });
    case BinaryKind::sub:
      return run_binary<T>(args, [](Floats a, Floats b) { return a - b; });
    case BinaryKind::mul:
      return run_binary<T>(args, [](Floats a, Floats b) { return a * b; });
    case BinaryKind::div:
      return run_binary<T>(args, [](Floats a, Floats b) { return a / b; });
  }
}

/// Norms and losses: a few numbers.
void binary_f64(const BinaryArgs& args, Stream) {
  const Nest<3> nest = nest_of(args);
  const double *a = static_cast<const double*>(args.a), *b = static_cast<const double*>(args.b);
  double* const out = static_cast<double*>(args.out);
  const int64_t a_stride = nest.stride[0][nest.ndim - 1], b_stride = nest.stride[1][nest.ndim - 1];
  nest.for_each_run(kGrain, [&](const int64_t* offsets, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double x = a[offsets[0] + i * a_stride], y = b[offsets[1] + i * b_stride];
      double& to = out[offsets[2] + i];
      switch (args.kind) {
        case BinaryKind::add:
          to = x + y;
          break;
        case BinaryKind::sub:
          to = x - y;
          break;
        case BinaryKind::mul:
          to = x * y;
          break;
        case BinaryKind::div:
          to = x / y;
          break;
      }
    }
  });
}

}  // namespace

void add_binary_rows(KernelTable& table) {
  table.binary.set(DType::f32, binary<float>);
  table.binary.set(DType::bf16, binary<bfloat16>);
  table.binary.set(DType::f64, binary_f64);
}

}  // namespace ondol::cpu::ONDOL_ISA
