// reduce: sum, mean or maximum over the middle dimension.
//
// Formula: out[o, n] (+)= sum | mean | max over i of in[o, i, n].
// Layout: in (outer, reduced, inner) contiguous, out (outer, inner).
// Mapping: inner == 1: a block takes a part of a row; else 32 x 8 threads take 8 slices of rows, each thread 128 bits
// of
//          columns where they divide the row. Long reductions are cut into parts, whose results a second pass reduces.
// Accumulation: f32 in an order that depends on the shape alone. NaN carries through all three kinds.
// Tuning: kThreads, kRowPart, kColumnPart, untuned: not run on a GPU yet.
#include "column_sums.h"
#include "device/block.cuh"
#include "device/columns.cuh"
#include "launch.h"
#include "rows.h"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kRowPart = 16384;  // elements of a row, and rows of a column, that one block reduces
constexpr int64_t kColumnPart = 256;

/// One pass: in (outer, reduced, inner) -> out (outer, parts, inner), part p being elements [p * part, (p + 1) * part).
struct Pass {
  int64_t outer, reduced, inner, part, parts;
  ReduceKind kind;
  float divisor;
  bool accumulate;
};

__device__ float identity_of(ReduceKind kind) { return kind == ReduceKind::max ? -INFINITY : 0.0f; }

__device__ float combine(ReduceKind kind, float a, float b) { return kind == ReduceKind::max ? Max{}(a, b) : a + b; }

template <class Out>
__device__ void finish(Out* out, float value, const Pass& pass) {
  value /= pass.divisor;
  *out = from_float<Out>(pass.accumulate ? to_float(*out) + value : value);
}

template <class In, class Out>
__global__ void reduce_rows_kernel(const In* in, Out* out, Pass pass) {
  SharedMemory shared;
  float* scratch = shared.take<float>(kReduceScratch);
  const int64_t row = blockIdx.x / pass.parts;
  const int64_t begin = (blockIdx.x - row * pass.parts) * pass.part;
  const int64_t end = begin + pass.part < pass.reduced ? begin + pass.part : pass.reduced;
  float value = identity_of(pass.kind);
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    value = combine(pass.kind, value, to_float(in[row * pass.reduced + i]));
  }
  value = pass.kind == ReduceKind::max ? block_max(value, scratch) : block_sum(value, scratch);
  if (threadIdx.x == 0) finish(out + blockIdx.x, value, pass);
}

template <class In, class Out, int kCount>
__global__ void reduce_columns_kernel(const In* in, Out* out, Pass pass) {
  constexpr int kColumns = kColumnThreads * kCount;
  SharedMemory shared;
  float* scratch = shared.take<float>(kSliceScratch<kCount>);
  const int64_t tiles = (pass.inner + kColumns - 1) / kColumns;
  const int64_t slab = blockIdx.x / tiles;  // (outer, part)
  const int64_t o = slab / pass.parts;
  const int64_t begin = (slab - o * pass.parts) * pass.part;
  const int64_t end = begin + pass.part < pass.reduced ? begin + pass.part : pass.reduced;
  const int64_t first = (blockIdx.x - slab * tiles) * kColumns;
  const int64_t n = first + column_lane() * kCount;
  Floats<kCount> value;
#pragma unroll
  for (int j = 0; j < kCount; ++j) value[j] = identity_of(pass.kind);
  if (n < pass.inner) {
    for (int64_t i = begin + column_slice(); i < end; i += kColumnSlices) {
      const Floats<kCount> row = load_floats<kCount>(in + (o * pass.reduced + i) * pass.inner + n);
#pragma unroll
      for (int j = 0; j < kCount; ++j) value[j] = combine(pass.kind, value[j], row[j]);
    }
  }
  combine_slices<kCount>(
      value, scratch, [&](float a, float b) { return combine(pass.kind, a, b); },
      [&](int c, float result) {
        if (first + c < pass.inner) finish(out + slab * pass.inner + first + c, result, pass);
      });
}

template <class In, class Out>
void run_pass(const void* in, void* out, const Pass& pass, Stream stream) {
  const auto* typed_in = static_cast<const In*>(in);
  auto* typed_out = static_cast<Out*>(out);
  const int64_t slabs = pass.outer * pass.parts;
  if (pass.inner == 1) {
    const int threads = row_threads(std::min(pass.part, pass.reduced), kThreads);
    return launch("reduce", reduce_rows_kernel<In, Out>, blocks_for("reduce", slabs, 1), threads,
                  shared_bytes<float>(kReduceScratch), stream, typed_in, typed_out, pass);
  }
  constexpr int kWide = kVector128<In>;
  const bool wide = pass.inner % kWide == 0 && aligned(16, in);
  const int64_t columns = kColumnThreads * (wide ? kWide : 1);
  launch("reduce", wide ? reduce_columns_kernel<In, Out, kWide> : reduce_columns_kernel<In, Out, 1>,
         blocks_for("reduce", slabs * ((pass.inner + columns - 1) / columns), 1), kColumnBlock,
         shared_bytes<float>(wide ? kSliceScratch<kWide> : kSliceScratch<1>), stream, typed_in, typed_out, pass);
}

template <class In>
void run_last_pass(const void* in, const ReduceArgs& args, const Pass& pass, Stream stream) {
  if (args.out_dtype == DType::f32) return run_pass<In, float>(in, args.out, pass, stream);
  run_pass<In, bfloat16>(in, args.out, pass, stream);
}

template <class T>
void reduce(const ReduceArgs& args, Stream stream) {
  if (args.outer == 0 || args.inner == 0) return;
  ONDOL_CHECK(args.out_dtype == DType::f32 || args.out_dtype == DType::bf16, "[reduce] no cuda kernel with output ",
              dtype_name(args.out_dtype));
  const float divisor = args.kind == ReduceKind::mean ? static_cast<float>(args.reduced) : 1.0f;
  const int64_t part = args.inner == 1 ? kRowPart : kColumnPart;
  const int64_t parts = std::max<int64_t>(1, (args.reduced + part - 1) / part);
  if (parts == 1) {
    return run_last_pass<T>(
        args.in, args, {args.outer, args.reduced, args.inner, part, 1, args.kind, divisor, args.accumulate}, stream);
  }
  const Workspace<float> partial("reduce", args.outer * parts * args.inner, stream);
  run_pass<T, float>(args.in, partial.data(),
                     {args.outer, args.reduced, args.inner, part, parts, args.kind, 1.0f, false}, stream);
  run_last_pass<float>(partial.data(), args,
                       {args.outer, parts, args.inner, parts, 1, args.kind, divisor, args.accumulate}, stream);
}

}  // namespace

void sum_partials(const char* op, const float* partial, int64_t parts, int64_t cols, float* out, bool accumulate,
                  Stream stream) {
  if (cols == 0) return;
  const Pass pass{1, parts, cols, std::max<int64_t>(1, parts), 1, ReduceKind::sum, 1.0f, accumulate};
  launch(op, reduce_columns_kernel<float, float, 1>, blocks_for(op, cols, kColumnThreads), kColumnBlock,
         shared_bytes<float>(kSliceScratch<1>), stream, partial, out, pass);
}

void add_reduce_rows(KernelTable& table) {
  table.reduce.set(DType::f32, reduce<float>);
  table.reduce.set(DType::bf16, reduce<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
