#include "distributed/reduction.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

namespace ondol {

namespace {

template <class T>
struct Sum {
  static T of(T a, T b) { return a + b; }
};
template <>
struct Sum<int64_t> {
  static int64_t of(int64_t a, int64_t b) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }
};
template <>
struct Sum<bfloat16> {
  static bfloat16 of(bfloat16 a, bfloat16 b) { return bfloat16(static_cast<float>(a) + static_cast<float>(b)); }
};

/// The greater one; NaN when one of them is.
template <class T>
struct Max {
  static T of(T a, T b) { return a > b || a != a ? a : b; }
};
template <>
struct Max<bfloat16> {
  static bfloat16 of(bfloat16 a, bfloat16 b) {
    const float x = static_cast<float>(a), y = static_cast<float>(b);
    return x > y || x != x ? a : b;
  }
};

/// Elements that are combined at a time: their intermediate results stay in the first-level cache.
constexpr int64_t kBlock = 512;

// Sources and `out` are the same array or do not overlap, so that no element depends on one of another index.
template <class T, class Op>
void combine(T* out, const T* const* sources, int n, int64_t begin, int64_t count) {
  const T* const a = sources[0] + begin;
  switch (n) {
    case 1:
      if (out != a) std::memmove(out, a, static_cast<size_t>(count) * sizeof(T));
      return;
    case 2: {
      const T* const b = sources[1] + begin;
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) out[i] = Op::of(a[i], b[i]);
      return;
    }
    case 3: {
      const T *const b = sources[1] + begin, *const c = sources[2] + begin;
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) out[i] = Op::of(Op::of(a[i], b[i]), c[i]);
      return;
    }
    case 4: {
      const T *const b = sources[1] + begin, *const c = sources[2] + begin, *const d = sources[3] + begin;
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) out[i] = Op::of(Op::of(a[i], b[i]), Op::of(c[i], d[i]));
      return;
    }
    default:
      break;
  }
  const int left = static_cast<int>(std::bit_floor(static_cast<unsigned>(n - 1)));
  T halves[2][kBlock];
  combine<T, Op>(halves[0], sources, left, begin, count);
  combine<T, Op>(halves[1], sources + left, n - left, begin, count);
  for (int64_t i = 0; i < count; ++i) out[i] = Op::of(halves[0][i], halves[1][i]);
}

template <class T, class Op>
void reduce(void* out, std::span<const void* const> sources, int64_t count) {
  const T* const* const typed = reinterpret_cast<const T* const*>(sources.data());
  const int n = static_cast<int>(sources.size());
  T* const target = static_cast<T*>(out);
  if (n <= 4) return combine<T, Op>(target, typed, n, 0, count);
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    combine<T, Op>(target + begin, typed, n, begin, std::min(kBlock, count - begin));
  }
}

template <class T>
void reduce(void* out, std::span<const void* const> sources, int64_t count, ReduceOp op) {
  if (op == ReduceOp::sum) return reduce<T, Sum<T>>(out, sources, count);
  reduce<T, Max<T>>(out, sources, count);
}

}  // namespace

bool can_reduce(DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::f32:
    case DType::f64:
    case DType::bf16:
    case DType::i64:
      return true;
    case DType::u8:
      return op == ReduceOp::max;
    default:
      return false;
  }
}

void reduce_tree(void* out, std::span<const void* const> sources, int64_t count, DType dtype, ReduceOp op) {
  if (count == 0) return;
  if (sources.empty()) {
    std::memset(out, 0, static_cast<size_t>(count) * dtype_size(dtype));
    return;
  }
  // One block: the calling thread does it, in the floating-point mode of all operations.
  parallel_for(count, count, [&](int64_t, int64_t) {
    switch (dtype) {
      case DType::f32:
        return reduce<float>(out, sources, count, op);
      case DType::f64:
        return reduce<double>(out, sources, count, op);
      case DType::bf16:
        return reduce<bfloat16>(out, sources, count, op);
      case DType::i64:
        return reduce<int64_t>(out, sources, count, op);
      case DType::u8:
        return reduce<uint8_t, Max<uint8_t>>(out, sources, count);
      default:
        throw_error("[reduce] there is no reduction of ", dtype_name(dtype));
    }
  });
}

}  // namespace ondol
