// fill and copy: any dtype, any strides.
#include <cstring>

#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/rows.h"

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

/// The loop nest after merging neighbouring dimensions that are contiguous in both tensors; innermost last.
struct Nest {
  int ndim = 0;
  int64_t shape[kMaxDims], in_stride[kMaxDims], out_stride[kMaxDims];
};

Nest merge_dimensions(const CopyArgs& args) {
  Nest nest;
  for (int d = 0; d < args.ndim; ++d) {
    if (args.shape[d] == 1) continue;
    if (nest.ndim > 0) {
      const int last = nest.ndim - 1;
      if (nest.in_stride[last] == args.in_stride[d] * args.shape[d] &&
          nest.out_stride[last] == args.out_stride[d] * args.shape[d]) {
        nest.shape[last] *= args.shape[d];
        nest.in_stride[last] = args.in_stride[d];
        nest.out_stride[last] = args.out_stride[d];
        continue;
      }
    }
    nest.shape[nest.ndim] = args.shape[d];
    nest.in_stride[nest.ndim] = args.in_stride[d];
    nest.out_stride[nest.ndim] = args.out_stride[d];
    ++nest.ndim;
  }
  if (nest.ndim == 0) {
    nest.ndim = 1;
    nest.shape[0] = nest.in_stride[0] = nest.out_stride[0] = 1;
  }
  return nest;
}

template <class In, class Out>
void copy_run(const In* in, int64_t in_stride, Out* out, int64_t out_stride, int64_t count) {
  if (in_stride == 1 && out_stride == 1) {
    if constexpr (std::is_same_v<In, Out>) {
      std::memcpy(out, in, static_cast<size_t>(count) * sizeof(In));
    } else {
      for (int64_t i = 0; i < count; ++i) out[i] = convert<In, Out>(in[i]);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) out[i * out_stride] = convert<In, Out>(in[i * in_stride]);
  }
}

template <class In, class Out>
void copy_nest(const Nest& nest, const In* in, Out* out) {
  const int inner = nest.ndim - 1;
  if (inner == 0) {
    parallel_for(nest.shape[0], 32768, [&](int64_t begin, int64_t end) {
      copy_run(in + begin * nest.in_stride[0], nest.in_stride[0], out + begin * nest.out_stride[0], nest.out_stride[0],
               end - begin);
    });
    return;
  }
  int64_t rows = 1;
  for (int d = 0; d < inner; ++d) rows *= nest.shape[d];
  const int64_t grain = nest.shape[inner] >= 32768 ? 1 : 32768 / nest.shape[inner] + 1;
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t rest = row, in_offset = 0, out_offset = 0;
      for (int d = inner - 1; d >= 0; --d) {
        const int64_t index = rest % nest.shape[d];
        rest /= nest.shape[d];
        in_offset += index * nest.in_stride[d];
        out_offset += index * nest.out_stride[d];
      }
      copy_run(in + in_offset, nest.in_stride[inner], out + out_offset, nest.out_stride[inner], nest.shape[inner]);
    }
  });
}

template <class In>
void copy(const CopyArgs& args, Stream) {
  const Nest nest = merge_dimensions(args);
  for (int d = 0; d < args.ndim; ++d) {
    if (args.shape[d] == 0) return;
  }
  const In* in = static_cast<const In*>(args.in);
  switch (args.out_dtype) {
    case DType::f32: return copy_nest(nest, in, static_cast<float*>(args.out));
    case DType::bf16: return copy_nest(nest, in, static_cast<bfloat16*>(args.out));
    case DType::f16: return copy_nest(nest, in, static_cast<float16*>(args.out));
    case DType::f64: return copy_nest(nest, in, static_cast<double*>(args.out));
    case DType::i64: return copy_nest(nest, in, static_cast<int64_t*>(args.out));
    case DType::i32: return copy_nest(nest, in, static_cast<int32_t*>(args.out));
    case DType::i16: return copy_nest(nest, in, static_cast<int16_t*>(args.out));
    case DType::i8: return copy_nest(nest, in, static_cast<int8_t*>(args.out));
    case DType::u8: return copy_nest(nest, in, static_cast<uint8_t*>(args.out));
    case DType::boolean: return copy_nest(nest, in, static_cast<bool*>(args.out));
  }
}

template <class T>
void add_rows(KernelTable& table, DType dtype) {
  table.fill.set(dtype, fill<T>);
  table.copy.set(dtype, copy<T>);
}

}  // namespace

void add_memory_rows(KernelTable& table) {
  add_rows<float>(table, DType::f32);
  add_rows<bfloat16>(table, DType::bf16);
  add_rows<float16>(table, DType::f16);
  add_rows<double>(table, DType::f64);
  add_rows<int64_t>(table, DType::i64);
  add_rows<int32_t>(table, DType::i32);
  add_rows<int16_t>(table, DType::i16);
  add_rows<int8_t>(table, DType::i8);
  add_rows<uint8_t>(table, DType::u8);
  add_rows<bool>(table, DType::boolean);
}

}  // namespace ondol::cpu::ONDOL_ISA
