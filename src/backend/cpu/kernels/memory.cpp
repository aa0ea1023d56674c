// fill and copy: any dtype, any strides.
#include <cstring>

#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/nest.h"
#include "backend/cpu/kernels/rows.h"
#include "backend/cpu/kernels/simd.h"
#include "backend/dtype_dispatch.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

template <class T>
T convert_from_double(double value) {
  if constexpr (sizeof(T) == 2 && !std::is_integral_v<T>) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <class T>
void fill(const FillArgs& args, Stream) {
  const T value = convert_from_double<T>(args.value);
  T* out = static_cast<T*>(args.out);
  parallel_for(args.count, 65536, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = value;
  });
}

/// 16-bit floats go through float; everything else converts directly.
template <class In, class Out>
Out convert(In value) {
  constexpr bool small_in = sizeof(In) == 2 && !std::is_integral_v<In>;
  constexpr bool small_out = sizeof(Out) == 2 && !std::is_integral_v<Out>;
  if constexpr (std::is_same_v<In, Out>) {
    return value;
  } else if constexpr (small_in && small_out) {
    return Out(static_cast<float>(value));
  } else if constexpr (small_in) {
    return static_cast<Out>(static_cast<float>(value));
  } else if constexpr (small_out) {
    return Out(static_cast<float>(value));
  } else {
    return static_cast<Out>(value);
  }
}

template <class T>
constexpr bool is_kernel_float = std::is_same_v<T, float> || std::is_same_v<T, bfloat16>;

template <class In, class Out>
void copy_run(const In* in, int64_t in_stride, Out* out, int64_t out_stride, int64_t count) {
  if (in_stride == 1 && out_stride == 1) {
    if constexpr (std::is_same_v<In, Out>) {
      std::memcpy(out, in, static_cast<size_t>(count) * sizeof(In));
    } else if constexpr (is_kernel_float<In> && is_kernel_float<Out>) {
      for_each_vector(count, [&](int64_t i, auto n) { store_lanes(out + i, load_lanes(in + i, n), n); });
    } else {
      for (int64_t i = 0; i < count; ++i) out[i] = convert<In, Out>(in[i]);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) out[i * out_stride] = convert<In, Out>(in[i * in_stride]);
  }
}

template <class In, class Out>
void copy_nest(const CopyArgs& args) {
  const Nest<2> nest(args.ndim, args.shape, {args.in_stride, args.out_stride});
  const In* in = static_cast<const In*>(args.in);
  Out* out = static_cast<Out*>(args.out);
  const int inner = nest.ndim - 1;
  const int64_t in_stride = nest.stride[0][inner], out_stride = nest.stride[1][inner];
  nest.for_each_run(32768, [&](const int64_t* offsets, int64_t count) {
    copy_run(in + offsets[0], in_stride, out + offsets[1], out_stride, count);
  });
}

template <class In>
void copy(const CopyArgs& args, Stream) {
  dispatch_dtype(args.out_dtype, [&]<class Out>(std::type_identity<Out>) { copy_nest<In, Out>(args); });
}

}  // namespace

void add_memory_rows(KernelTable& table) {
  for_each_dtype([&]<class T>(std::type_identity<T>, DType dtype) {
    table.fill.set(dtype, fill<T>);
    table.copy.set(dtype, copy<T>);
  });
}

}  // namespace ondol::cpu::ONDOL_ISA
