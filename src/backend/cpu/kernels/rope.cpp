// rope: rotation of pairs by position-dependent angles, in place or out of place.
#include <cstring>

#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

/// Pairs (i, i + half).
template <class T>
void rotate_halves(const T* in, T* out, const float* cos, const float* sin, int64_t half, Floats direction) {
  for_each_vector(half, [&](int64_t i, auto n) {
    const Floats c = load_lanes(cos + i, n), s = load_lanes(sin + i, n) * direction;
    const Floats first = load_lanes(in + i, n), second = load_lanes(in + half + i, n);
    store_lanes(out + i, first * c - second * s, n);
    store_lanes(out + half + i, second * c + first * s, n);
  });
}

/// Pairs (2i, 2i + 1).
template <class T>
void rotate_neighbours(const T* in, T* out, const float* cos, const float* sin, int64_t half, float direction) {
  for (int64_t i = 0; i < half; ++i) {
    const float s = sin[i] * direction;
    const float first = static_cast<float>(in[2 * i]), second = static_cast<float>(in[2 * i + 1]);
    out[2 * i] = T(first * cos[i] - second * s);
    out[2 * i + 1] = T(second * cos[i] + first * s);
  }
}

template <class T>
void rope(const RopeArgs& args, Stream) {
  const int64_t half = args.rotary_dim / 2;
  const float direction = args.inverse ? -1.0f : 1.0f;
  parallel_for(args.batch * args.length, rows_per_piece(args.heads * args.head_dim), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / args.length, t = row % args.length;
      const int64_t position = args.positions == nullptr ? t + args.position_offset : args.positions[row];
      const float* cos = args.cos + position * half;
      const float* sin = args.sin + position * half;
      for (int64_t h = 0; h < args.heads; ++h) {
        const T* in =
            static_cast<const T*>(args.in) + b * args.in_stride_b + t * args.in_stride_t + h * args.in_stride_h;
        T* out = static_cast<T*>(args.out) + b * args.out_stride_b + t * args.out_stride_t + h * args.out_stride_h;
        if (args.interleaved) {
          rotate_neighbours(in, out, cos, sin, half, direction);
        } else {
          rotate_halves(in, out, cos, sin, half, splat(direction));
        }
        if (in != out && args.rotary_dim < args.head_dim) {
          std::memcpy(static_cast<void*>(out + args.rotary_dim), in + args.rotary_dim,
                      static_cast<size_t>(args.head_dim - args.rotary_dim) * sizeof(T));
        }
      }
    }
  });
}

}  // namespace

void add_rope_rows(KernelTable& table) {
  table.rope.set(DType::f32, rope<float>);
  table.rope.set(DType::bf16, rope<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
