// fill and copy: any dtype, any strides, with conversion.
//
// Formula: out[i] = value; out[i] = convert(in[i]). 16-bit floats convert by way of f32, rounding to nearest even.
// Layout: up to kMaxDims strided dimensions; neighbouring contiguous ones are merged first.
// Mapping: one thread for each element. Copies without conversion move whole 128-bit units where both sides allow it,
//          contiguous ones are a plain memory copy; contiguous f32 <-> bf16 takes eight elements for each thread.
// Tuning: kThreads, untuned: not run on a GPU yet.
#include <cstring>

#include "backend/dtype_dispatch.h"
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "nest.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kWideConvert = 8;

template <class Unit>
__global__ void fill_kernel(Unit* out, int64_t count, Unit value) {
  const int64_t i = global_thread();
  if (i < count) out[i] = value;
}

template <class Unit>
void fill_units(const FillArgs& args, const void* value, Stream stream) {
  Unit unit;
  std::memcpy(&unit, value, sizeof(unit));
  if (unit == 0) {
    CUDA_CHECK("fill", cudaMemsetAsync(args.out, 0, static_cast<size_t>(args.count) * sizeof(Unit),
                                       static_cast<cudaStream_t>(stream)));
    return;
  }
  launch("fill", fill_kernel<Unit>, blocks_for("fill", args.count, kThreads), kThreads, 0, stream,
         static_cast<Unit*>(args.out), args.count, unit);
}

template <class T>
inline constexpr bool kSmallFloat = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

template <class T>
void fill(const FillArgs& args, Stream stream) {
  if (args.count == 0) return;
  T value;
  if constexpr (kSmallFloat<T>) {
    value = T(static_cast<float>(args.value));
  } else {
    value = static_cast<T>(args.value);
  }
  if constexpr (sizeof(T) == 8) fill_units<uint64_t>(args, &value, stream);
  if constexpr (sizeof(T) == 4) fill_units<uint32_t>(args, &value, stream);
  if constexpr (sizeof(T) == 2) fill_units<uint16_t>(args, &value, stream);
  if constexpr (sizeof(T) == 1) fill_units<uint8_t>(args, &value, stream);
}

template <class Unit>
__global__ void copy_units_kernel(const Unit* in, Unit* out, Nest<2> nest) {
  const int64_t i = global_thread();
  if (i >= nest.count) return;
  const Offsets<2> at = offsets(nest, i);
  out[at.of[1]] = in[at.of[0]];
}

/// Units of `ratio` elements can stand for the elements: contiguous inside, aligned everywhere.
bool divisible(const Nest<2>& nest, int64_t ratio) {
  const int inner = nest.ndim - 1;
  bool ok = nest.shape[inner] % ratio == 0;
  for (int t = 0; t < 2; ++t) {
    ok = ok && nest.stride[t][inner] == 1;
    for (int d = 0; d < inner; ++d) ok = ok && nest.stride[t][d] % ratio == 0;
  }
  return ok;
}

Nest<2> in_units(Nest<2> nest, int64_t ratio) {
  const int inner = nest.ndim - 1;
  nest.count /= ratio;
  nest.shape[inner] /= ratio;
  for (int t = 0; t < 2; ++t) {
    for (int d = 0; d < inner; ++d) nest.stride[t][d] /= ratio;
  }
  return nest;
}

template <class Unit>
void copy_units(const CopyArgs& args, const Nest<2>& nest, Stream stream) {
  launch("copy", copy_units_kernel<Unit>, blocks_for("copy", nest.count, kThreads), kThreads, 0, stream,
         static_cast<const Unit*>(args.in), static_cast<Unit*>(args.out), nest);
}

void copy_same_dtype(const CopyArgs& args, const Nest<2>& nest, Stream stream) {
  const auto size = static_cast<int64_t>(dtype_size(args.in_dtype));
  if (nest.ndim == 1 && nest.stride[0][0] == 1 && nest.stride[1][0] == 1) {
    CUDA_CHECK("copy", cudaMemcpyAsync(args.out, args.in, static_cast<size_t>(nest.count * size),
                                       cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(stream)));
    return;
  }
  if (divisible(nest, 16 / size) && aligned(16, args.in, args.out)) {
    return copy_units<uint4>(args, in_units(nest, 16 / size), stream);
  }
  if (size == 8) return copy_units<uint64_t>(args, nest, stream);
  if (size == 4) return copy_units<uint32_t>(args, nest, stream);
  if (size == 2) return copy_units<uint16_t>(args, nest, stream);
  copy_units<uint8_t>(args, nest, stream);
}

template <class Out, class In>
__device__ Out convert(In value) {
  if constexpr (std::is_same_v<In, Out>) {
    return value;
  } else if constexpr (kSmallFloat<In>) {
    return convert<Out>(to_float(value));
  } else if constexpr (kSmallFloat<Out>) {
    return from_float<Out>(static_cast<float>(value));
  } else {
    return static_cast<Out>(value);
  }
}

/// The output's dtype is a branch that all threads take alike: memory, not arithmetic, is what this kernel waits for.
template <class In>
__global__ void convert_kernel(const In* in, void* out, DType out_dtype, Nest<2> nest) {
  const int64_t i = global_thread();
  if (i >= nest.count) return;
  const Offsets<2> at = offsets(nest, i);
  const In value = in[at.of[0]];
  dispatch_dtype(out_dtype, [&]<class Out>(std::type_identity<Out>) {
    static_cast<Out*>(out)[at.of[1]] = convert<Out>(value);
  });
}

template <class In, class Out>
__global__ void convert_wide_kernel(const In* in, Out* out, int64_t count) {
  const int64_t i = global_thread() * kWideConvert;
  if (i + kWideConvert <= count) {
    store_floats<kWideConvert>(out + i, load_floats<kWideConvert>(in + i));
  } else {
    for (int64_t j = i; j < count; ++j) out[j] = from_float<Out>(to_float(in[j]));
  }
}

template <class In, class Out>
void convert_wide(const CopyArgs& args, int64_t count, Stream stream) {
  const int64_t threads = (count + kWideConvert - 1) / kWideConvert;
  launch("copy", convert_wide_kernel<In, Out>, blocks_for("copy", threads, kThreads), kThreads, 0, stream,
         static_cast<const In*>(args.in), static_cast<Out*>(args.out), count);
}

template <class In>
void copy(const CopyArgs& args, Stream stream) {
  const Nest<2> nest = make_nest<2>(args.ndim, args.shape, {args.in_stride, args.out_stride});
  if (nest.count == 0) return;
  if (args.in_dtype == args.out_dtype) return copy_same_dtype(args, nest, stream);
  const bool contiguous = nest.ndim == 1 && nest.stride[0][0] == 1 && nest.stride[1][0] == 1;
  if (contiguous && aligned(sizeof(float) * kWideConvert, args.in, args.out)) {
    if (args.in_dtype == DType::f32 && args.out_dtype == DType::bf16) {
      return convert_wide<float, bfloat16>(args, nest.count, stream);
    }
    if (args.in_dtype == DType::bf16 && args.out_dtype == DType::f32) {
      return convert_wide<bfloat16, float>(args, nest.count, stream);
    }
  }
  launch("copy", convert_kernel<In>, blocks_for("copy", nest.count, kThreads), kThreads, 0, stream,
         static_cast<const In*>(args.in), args.out, args.out_dtype, nest);
}

}  // namespace

void add_memory_rows(KernelTable& table) {
  for_each_dtype([&]<class T>(std::type_identity<T>, DType dtype) {
    table.fill.set(dtype, fill<T>);
    table.copy.set(dtype, copy<T>);
  });
}

}  // namespace ondol::ONDOL_CUDA_SPACE
