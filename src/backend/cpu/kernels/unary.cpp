// unary, unary_backward: elementwise functions of one contiguous tensor.

#include "backend/cpu/kernels/activations.h"
#include "backend/cpu/kernels/column_sums.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

thread_local Scratch scratch;

constexpr int64_t kGrain = 8192;

// What activations.h does not have: functions of one tensor that are no activations. `parameter` serves scale and
// add_scalar.
struct Exp {
  static Floats value(Floats x) { return exp(x); }
  static Floats derivative(Floats x) { return exp(x); }
};
struct Log {
  static Floats value(Floats x) { return log(x); }
  static Floats derivative(Floats x) { return splat(1.0f) / x; }
};
struct Sqrt {
  static Floats value(Floats x) { return sqrt(x); }
  static Floats derivative(Floats x) { return splat(0.5f) / sqrt(x); }
};
struct Square {
  static Floats value(Floats x) { return x * x; }
  static Floats derivative(Floats x) { return x + x; }
};

template <class T, class Function>
void map(const UnaryArgs& args, Function function) {
  const T* in = static_cast<const T*>(args.in);
  T* out = static_cast<T*>(args.out);
  parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
    for_each_vector(begin, end, [&](int64_t i, auto n) { store_lanes(out + i, function(load_lanes(in + i, n)), n); });
  });
}

template <class T>
void unary(const UnaryArgs& args, Stream) {
  const Floats parameter = splat(args.parameter);
  switch (args.kind) {
    case UnaryKind::relu:
      return map<T>(args, [](Floats x) { return Relu::value(x); });
    case UnaryKind::gelu_erf:
      return map<T>(args, [](Floats x) { return GeluErf::value(x); });
    case UnaryKind::gelu_tanh:
      return map<T>(args, [](Floats x) { return GeluTanh::value(x); });
    case UnaryKind::silu:
      return map<T>(args, [](Floats x) { return Silu::value(x); });
    case UnaryKind::tanh:
      return map<T>(args, [](Floats x) { return Tanh::value(x); });
    case UnaryKind::sigmoid:
      return map<T>(args, [](Floats x) { return Sigmoid::value(x); });
    case UnaryKind::exp:
      return map<T>(args, [](Floats x) { return Exp::value(x); });
    case UnaryKind::log:
      return map<T>(args, [](Floats x) { return Log::value(x); });
    case UnaryKind::sqrt:
      return map<T>(args, [](Floats x) { return Sqrt::value(x); });
    case UnaryKind::square:
      return map<T>(args, [](Floats x) { return Square::value(x); });
    case UnaryKind::scale:
      return map<T>(args, [parameter](Floats x) { return x * parameter; });
    case UnaryKind::add_scalar:
      return map<T>(args, [parameter](Floats x) { return x + parameter; });
  }
}

template <class T, class Derivative>
void map_backward(const UnaryBackwardArgs& args, Derivative derivative) {
  const T* grad_out = static_cast<const T*>(args.grad_out);
  const T* in = static_cast<const T*>(args.in);
  T* grad_in = static_cast<T*>(args.grad_in);
  const auto gradient = [&](int64_t i, auto n) {
    const Floats result = load_lanes(grad_out + i, n) * derivative(load_lanes(in + i, n));
    store_lanes(grad_in + i, result, n);
    return result;
  };
  if (args.grad_bias == nullptr) {
    return parallel_for(args.count, kGrain, [&](int64_t begin, int64_t end) {
      for_each_vector(begin, end, [&](int64_t i, auto n) { gradient(i, n); });
    });
  }
  fold_columns<RowSum>(
      1, args.count / args.cols, args.cols, scratch,
      [&](int64_t, int64_t row, int64_t c, auto n) { return gradient(row * args.cols + c, n); },
      [&](int64_t, int64_t c, auto n, Floats sum) {
        float* out = args.grad_bias + c;
        store_lanes(out, args.accumulate ? load_lanes(out, n) + sum : sum, n);
      });
}

template <class T>
void unary_backward(const UnaryBackwardArgs& args, Stream) {
  const Floats parameter = splat(args.parameter);
  switch (args.kind) {
    case UnaryKind::relu:
      return map_backward<T>(args, [](Floats x) { return Relu::derivative(x); });
    case UnaryKind::gelu_erf:
      return map_backward<T>(args, [](Floats x) { return GeluErf::derivative(x); });
    case UnaryKind::gelu_tanh:
      return map_backward<T>(args, [](Floats x) { return GeluTanh::derivative(x); });
    case UnaryKind::silu:
      return map_backward<T>(args, [](Floats x) { return Silu::derivative(x); });
    case UnaryKind::tanh:
      return map_backward<T>(args, [](Floats x) { return Tanh::derivative(x); });
    case UnaryKind::sigmoid:
      return map_backward<T>(args, [](Floats x) { return Sigmoid::derivative(x); });
    case UnaryKind::exp:
      return map_backward<T>(args, [](Floats x) { return Exp::derivative(x); });
    case UnaryKind::log:
      return map_backward<T>(args, [](Floats x) { return Log::derivative(x); });
    case UnaryKind::sqrt:
      return map_backward<T>(args, [](Floats x) { return Sqrt::derivative(x); });
    case UnaryKind::square:
      return map_backward<T>(args, [](Floats x) { return Square::derivative(x); });
    case UnaryKind::scale:
      return map_backward<T>(args, [parameter](Floats) { return parameter; });
    case UnaryKind::add_scalar:
      return map_backward<T>(args, [](Floats) { return splat(1.0f); });
  }
}

}  // namespace

void add_unary_rows(KernelTable& table) {
  table.unary.set(DType::f32, unary<float>);
  table.unary.set(DType::bf16, unary<bfloat16>);
  table.unary_backward.set(DType::f32, unary_backward<float>);
  table.unary_backward.set(DType::bf16, unary_backward<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
