// rope: rotary position embedding (Su et al. 2021).
//
// Formula: (a, b) -> (a cos - b sin, b cos + a sin) with the angle of the pair at the token's position; the inverse
// turns
//          the other way. Pairs are (i, i + n/2) in the half style and (2i, 2i + 1) interleaved, n = rotary_dim.
// Layout: in, out (B, T, H, D) with strides, D contiguous; cos, sin (num_positions, n/2) f32.
// Mapping: one thread for each kPairs neighbouring pairs of one head; threads behind those of a head copy its last
//          D - n elements one by one.
// Accumulation: f32. A position outside the table gives NaN instead of a read outside it.
// Tuning: kThreads, untuned: not run on a GPU yet.
#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;

template <class T, int kPairs, bool kInterleaved>
__global__ void rope_kernel(RopeArgs args) {
  const int64_t half = args.rotary_dim / 2;
  const int64_t rotating = half / kPairs;
  const int64_t per_head = rotating + (args.in == args.out ? 0 : args.head_dim - args.rotary_dim);
  const int64_t thread = global_thread();
  const int64_t head_number = thread / per_head;
  const int64_t token = head_number / args.heads;
  const int64_t b = token / args.length;
  if (b >= args.batch) return;
  const int64_t lane = thread - head_number * per_head;
  const int64_t h = head_number - token * args.heads;
  const int64_t t = token - b * args.length;
  const T* in = static_cast<const T*>(args.in) + b * args.in_stride_b + t * args.in_stride_t + h * args.in_stride_h;
  T* out = static_cast<T*>(args.out) + b * args.out_stride_b + t * args.out_stride_t + h * args.out_stride_h;
  if (lane >= rotating) {
    const int64_t d = args.rotary_dim + lane - rotating;
    out[d] = in[d];
    return;
  }

  const int64_t position = args.positions == nullptr ? t + args.position_offset : args.positions[token];
  const bool known = position >= 0 && position < args.num_positions;
  const int64_t i0 = lane * kPairs;
  Floats<kPairs> first, second;
  if constexpr (kInterleaved && kPairs == 1) {  // no alignment needed
    first[0] = to_float(in[2 * i0]);
    second[0] = to_float(in[2 * i0 + 1]);
  } else if constexpr (kInterleaved) {
    const Floats<2 * kPairs> both = load_floats<2 * kPairs>(in + 2 * i0);
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      first[p] = both[2 * p];
      second[p] = both[2 * p + 1];
    }
  } else {
    first = load_floats<kPairs>(in + i0);
    second = load_floats<kPairs>(in + half + i0);
  }
#pragma unroll
  for (int p = 0; p < kPairs; ++p) {
    const float cosine = known ? args.cos[position * half + i0 + p] : NAN;
    const float sine = known ? args.sin[position * half + i0 + p] : NAN;
    const float turn = args.inverse ? -sine : sine;
    const float a = first[p], c = second[p];
    first[p] = a * cosine - c * turn;
    second[p] = c * cosine + a * turn;
  }
  if constexpr (kInterleaved && kPairs == 1) {
    out[2 * i0] = from_float<T>(first[0]);
    out[2 * i0 + 1] = from_float<T>(second[0]);
  } else if constexpr (kInterleaved) {
    Floats<2 * kPairs> both;
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      both[2 * p] = first[p];
      both[2 * p + 1] = second[p];
    }
    store_floats<2 * kPairs>(out + 2 * i0, both);
  } else {
    store_floats<kPairs>(out + i0, first);
    store_floats<kPairs>(out + half + i0, second);
  }
}

/// Every vector of `count` elements that starts at a multiple of `count` of any head is aligned.
template <class T>
bool heads_aligned(const RopeArgs& a, int64_t count) {
  return a.in_stride_b % count == 0 && a.in_stride_t % count == 0 && a.in_stride_h % count == 0 &&
         a.out_stride_b % count == 0 && a.out_stride_t % count == 0 && a.out_stride_h % count == 0 &&
         aligned(static_cast<size_t>(count) * sizeof(T), a.in, a.out);
}

template <class T>
void rope(const RopeArgs& args, Stream stream) {
  const int64_t heads = args.batch * args.length * args.heads;
  if (heads == 0 || args.head_dim == 0) return;
  const int64_t half = args.rotary_dim / 2;
  const auto run = [&](auto* kernel, int pairs) {
    const int64_t per_head = half / pairs + (args.in == args.out ? 0 : args.head_dim - args.rotary_dim);
    if (per_head == 0) return;
    launch("rope", kernel, blocks_for("rope", heads * per_head, kThreads), kThreads, 0, stream, args);
  };
  constexpr int kWide = kVector128<T>;
  if (args.interleaved) {
    constexpr int kPairs = kWide / 2;
    if (half % kPairs == 0 && heads_aligned<T>(args, kWide)) return run(rope_kernel<T, kPairs, true>, kPairs);
    return run(rope_kernel<T, 1, true>, 1);
  }
  if (half % kWide == 0 && heads_aligned<T>(args, kWide)) return run(rope_kernel<T, kWide, false>, kWide);
  run(rope_kernel<T, 1, false>, 1);
}

}  // namespace

void add_rope_rows(KernelTable& table) {
  table.rope.set(DType::f32, rope<float>);
  table.rope.set(DType::bf16, rope<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
