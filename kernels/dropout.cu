// dropout (Srivastava et al. 2014), inverted; the backward is the same call on the gradient.
//
// Formula: out[i] = uniform(i) >= p ? in[i] / (1 - p) : 0, with the counter-based generator of base/philox.h; with a
//          residual, residual[i] + that, rounded as if the two were passes of their own.
// Layout: contiguous.
// Mapping: one thread for the four neighbouring elements that one Philox block covers.
// Accumulation: none.
// Tuning: kThreads, untuned: not run on a GPU yet.
#include <ondol/base/philox.h>

#include "device/block.cuh"
#include "device/vector.cuh"
#include "launch.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 4;

template <class T, bool kAligned>
__global__ void dropout_kernel(DropoutArgs args) {
  const int64_t group = global_thread();
  const int64_t first = group * kGroup;
  if (first >= args.count) return;
  const PhiloxKey key{args.rng.seed, args.rng.stream,
                      args.rng.step == nullptr ? 0u : static_cast<uint32_t>(*args.rng.step)};
  const PhiloxBlock random = philox_block(key, static_cast<uint64_t>(group));
  const float factor = 1.0f / (1.0f - args.p);
  const T* in = static_cast<const T*>(args.in) + first;
  const T* residual = args.residual == nullptr ? nullptr : static_cast<const T*>(args.residual) + first;
  T* out = static_cast<T*>(args.out) + first;
  const auto one = [&](int j, float x) {
    return word_to_uniform(random.word[j]) >= args.p ? rounded_product(x, factor) : 0.0f;
  };
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

template <class T>
void dropout(const DropoutArgs& args, Stream stream) {
  if (args.count == 0) return;
  const bool wide = aligned(kGroup * sizeof(T), args.in, args.residual, args.out);
  launch("dropout", wide ? dropout_kernel<T, true> : dropout_kernel<T, false>,
         blocks_for("dropout", (args.count + kGroup - 1) / kGroup, kThreads), kThreads, 0, stream, args);
}

}  // namespace

void add_dropout_rows(KernelTable& table) {
  table.dropout.set(DType::f32, dropout<float>);
  table.dropout.set(DType::bf16, dropout<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
