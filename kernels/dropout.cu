// dropout (Srivastava et al. 2014), inverted; the backward is the same call on the gradient.
//
// Formula: out[i] = uniform(number of i) >= p ? in[i] / (1 - p) : 0, with the counter-based generator of base/philox.h;
//          with a residual, residual[i] + that, rounded as if the two were passes of their own.
// Layout: contiguous.
// Mapping: one thread for four neighbouring elements; one Philox block covers them where rows begin at its bounds.
// Accumulation: none.
// Tuning: kThreads, untuned: not run on a GPU yet.
#include "device/block.cuh"
#include "device/random.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 4;

/// The generator's number of an element.
__device__ inline uint64_t number_of(const DropoutArgs& args, int64_t element) {
  if (args.row_length == args.count) return static_cast<uint64_t>(args.first + element);
  const int64_t row = element / args.row_length;
  return static_cast<uint64_t>(args.first + row * args.row_stride + (element - row * args.row_length));
}

/// A bit for each of kGroup elements that is kept.
template <bool kInBlocks>
__device__ unsigned kept_of(const DropoutArgs& args, int64_t first) {
  const PhiloxKey key{args.rng.seed, args.rng.stream,
                      args.rng.step == nullptr ? 0u : static_cast<uint32_t>(*args.rng.step)};
  unsigned bits = 0;
  if constexpr (kInBlocks) {
    const PhiloxBlock random = philox_block(key, number_of(args, first) / kGroup);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) bits |= (word_to_uniform(random.word[j]) >= args.p ? 1u : 0u) << j;
  } else {
#pragma unroll 1
    for (int j = 0; j < kGroup; ++j) {
      bits |= (uniform_of(key, number_of(args, first + j)) >= args.p ? 1u : 0u) << j;
    }
  }
  return bits;
}

template <class T, bool kAligned, bool kInBlocks>
__global__ void dropout_kernel(DropoutArgs args) {
  const int64_t first = global_thread() * kGroup;
  if (first >= args.count) return;
  const unsigned kept = kept_of<kInBlocks>(args, first);
  const float factor = 1.0f / (1.0f - args.p);
  const T* in = static_cast<const T*>(args.in) + first;
  const T* residual = args.residual == nullptr ? nullptr : static_cast<const T*>(args.residual) + first;
  T* out = static_cast<T*>(args.out) + first;
  const auto one = [&](int j, float x) { return (kept >> j & 1) != 0 ? rounded_product(x, factor) : 0.0f; };
  if (kAligned && first + kGroup <= args.count) {
    Floats<kGroup> v = load_floats<kGroup>(in);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) v[j] = one(j, v[j]);
    if (residual != nullptr) {
      const Floats<kGroup> r = load_floats<kGroup>(residual);
#pragma unroll
      for (int j = 0; j < kGroup; ++j) v[j] = r[j] + rounded<T>(v[j]);
    }
    store_floats<kGroup>(out, v);
    return;
  }
#pragma unroll
  for (int j = 0; j < kGroup; ++j) {
    if (first + j >= args.count) continue;
    float value = one(j, to_float(in[j]));
    if (residual != nullptr) value = to_float(residual[j]) + rounded<T>(value);
    out[j] = from_float<T>(value);
  }
}

template <class T, bool kInBlocks>
void launch_dropout(const DropoutArgs& args, Stream stream) {
  const bool wide = aligned(kGroup * sizeof(T), args.in, args.residual, args.out);
  launch("dropout", wide ? dropout_kernel<T, true, kInBlocks> : dropout_kernel<T, false, kInBlocks>,
         blocks_for("dropout", (args.count + kGroup - 1) / kGroup, kThreads), kThreads, 0, stream, args);
}

template <class T>
void dropout(const DropoutArgs& args, Stream stream) {
  if (args.count == 0) return;
  const bool one_row = args.row_length == args.count;
  if (args.first % kGroup == 0 && (one_row || (args.row_length % kGroup == 0 && args.row_stride % kGroup == 0))) {
    launch_dropout<T, true>(args, stream);
  } else {
    launch_dropout<T, false>(args, stream);
  }
}

}  // namespace

void add_dropout_rows(KernelTable& table) {
  table.dropout.set(DType::f32, dropout<float>);
  table.dropout.set(DType::bf16, dropout<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
