// The matrix product of up to eight rows (decoding), bound by reading b.
//
// Formula: as gemm.cu.
// Layout: a row-major; b (n, k) or (k, n); 128-bit loads along the contiguous dimension of b, so that its length,
// leading
//         dimension and address must be multiples of 16 bytes (else gemm.cu does it another way). One matrix.
// Mapping: b (n, k): kFewRowsWarps warps share kOutputs columns of c and take pieces of k in turn. b (k, n): a block
// takes
//          kColumnThreads vectors of columns and one of several parts of k, whose number follows from the shape; the
//          parts are added in order by a second kernel.
// Accumulation: f32 in an order that depends on the shape alone.
// Tuning: kOutputs, kWantedBlocks, kMinPart, untuned: not run on a GPU yet.
#include "gemm_few_rows.h"

#include "device/columns.cuh"
#include "device/few_rows.cuh"
#include "device/vector.cuh"
#include "workspace.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int64_t kMaxRows = 8;
constexpr int kOutputs = 2;
constexpr int64_t kWantedBlocks = 264;  // two for each multiprocessor of an H100
constexpr int64_t kMinPart = 64;        // of k

template <class T, int kRows>
__global__ void rows_of_b_kernel(GemmArgs args) {
  constexpr int kWide = kVector128<T>;
  SharedMemory shared;
  float* scratch = shared.take<float>(kFewRowsScratch<kOutputs, kRows>);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kOutputs;
  const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
  float sum[kOutputs][kRows] = {};
  for (int64_t l = static_cast<int64_t>(threadIdx.x) * kWide; l < args.k; l += kFewRowsThreads * kWide) {
    Floats<kWide> w[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const int64_t column = first + o < args.n ? first + o : first;
      w[o] = load_floats<kWide>(b + column * args.ldb + l);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= args.m) continue;
      const Floats<kWide> x = load_floats<kWide>(a + r * args.lda + l);
#pragma unroll
      for (int o = 0; o < kOutputs; ++o) {
#pragma unroll
        for (int i = 0; i < kWide; ++i) sum[o][r] += w[o][i] * x[i];
      }
    }
  }
  finish_columns<T, kOutputs, kRows>(args, sum, 0, static_cast<int>(args.m), first, scratch);
}

/// partial[part, r, j] = the sum over the part's share of k.
template <class T, int kRows>
__global__ void columns_of_b_kernel(GemmArgs args, int64_t tiles, int64_t depth, float* partial) {
  constexpr int kWide = kVector128<T>;
  constexpr int kColumns = kColumnThreads * kWide;
  SharedMemory shared;
  float* scratch = shared.take<float>(kSliceScratch<kWide>);
  const int64_t part = blockIdx.x / tiles;
  const int64_t first = (blockIdx.x - part * tiles) * kColumns;
  const int64_t j = first + column_lane() * kWide;
  const int64_t end = (part + 1) * depth < args.k ? (part + 1) * depth : args.k;
  const T *a = static_cast<const T*>(args.a), *b = static_cast<const T*>(args.b);
  Floats<kWide> sum[kRows] = {};
  if (j < args.n) {
    for (int64_t l = part * depth + column_slice(); l < end; l += kColumnSlices) {
      const Floats<kWide> w = load_floats<kWide>(b + l * args.ldb + j);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= args.m) continue;
        const float x = to_float(a[r * args.lda + l]);
#pragma unroll
        for (int i = 0; i < kWide; ++i) sum[r][i] += x * w[i];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= args.m) continue;
    block_barrier();  // the scratch may still be read for the row before
    combine_slices<kWide>(sum[r], scratch, Sum{}, [&](int column, float result) {
      if (first + column < args.n) partial[(part * args.m + r) * args.n + first + column] = result;
    });
  }
}

template <class T, class C>
__global__ void finish_parts_kernel(GemmArgs args, const float* partial, int64_t parts) {
  const int64_t item = global_thread();
  if (item >= args.m * args.n) return;
  float sum = partial[item];
  for (int64_t part = 1; part < parts; ++part) sum += partial[part * args.m * args.n + item];
  const int64_t row = item / args.n;
  finish_element<T, C>(args, 0, row, item - row * args.n, sum);
}

template <class T, int kRows>
void multiply(const GemmArgs& args, Stream stream) {
  constexpr const char* op = "gemm";
  if (args.trans_b) {
    return launch(op, rows_of_b_kernel<T, kRows>, blocks_for(op, args.n, kOutputs), kFewRowsThreads,
                  shared_bytes<float>(kFewRowsScratch<kOutputs, kRows>), stream, args);
  }
  constexpr int64_t kColumns = kColumnThreads * kVector128<T>;
  const int64_t tiles = (args.n + kColumns - 1) / kColumns;
  const int64_t wanted = std::clamp<int64_t>(kWantedBlocks / tiles, 1, (args.k + kMinPart - 1) / kMinPart);
  const int64_t depth = (args.k + wanted - 1) / wanted, parts = (args.k + depth - 1) / depth;
  const Workspace<float> partial(op, parts * args.m * args.n, stream);
  launch(op, columns_of_b_kernel<T, kRows>, blocks_for(op, tiles * parts, 1), kColumnBlock,
         shared_bytes<float>(kSliceScratch<kVector128<T>>), stream, args, tiles, depth, partial.data());
  launch(op, args.c_dtype == DType::f32 ? finish_parts_kernel<T, float> : finish_parts_kernel<T, T>,
         blocks_for(op, args.m * args.n, kColumnBlock), kColumnBlock, 0, stream, args, partial.data(), parts);
}

template <class T>
bool few_rows(const GemmArgs& args, Stream stream) {
  constexpr int64_t kWide = kVector128<T>;
  const bool fits = args.m <= kMaxRows && args.batch == 1 && !args.trans_a && args.k > 0 && args.ldb % kWide == 0 &&
                    aligned(16, args.b);
  if (!fits) return false;
  if (args.trans_b) {
    if (args.k % kWide != 0 || args.lda % kWide != 0 || !aligned(16, args.a)) return false;
  } else if (args.n % kWide != 0) {
    return false;
  }
  if (args.m == 1) {
    multiply<T, 1>(args, stream);
  } else if (args.m == 2) {
    multiply<T, 2>(args, stream);
  } else if (args.m <= 4) {
    multiply<T, 4>(args, stream);
  } else {
    multiply<T, 8>(args, stream);
  }
  return true;
}

}  // namespace

bool few_rows_gemm(const GemmArgs& args, DType dtype, Stream stream) {
  return dtype == DType::f32 ? few_rows<float>(args, stream) : few_rows<bfloat16>(args, stream);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
