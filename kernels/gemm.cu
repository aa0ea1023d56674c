// gemm: matrix products with a fused epilogue, for any orientation, leading dimensions and batch. Products of
// few rows have kernels of their own (gemm_few_rows.cu); then comes the library of the GPU's vendor (gemm_library.cu);
// the kernel here takes what both refuse.
//
// Formula: pre = alpha * op(a) op(b) + bias, c = epilogue(pre) + residual + beta * c; pre_activation receives pre.
// Layout: as GemmArgs says; a and b f32 or bf16, c of the same type or f32.
// Mapping: a block computes a tile of kTile x kTile of c from panels of kDepth in shared memory, f32; thread (x, y)
// owns
//          the rows y, y + 16, ... and columns x, x + 16, ... of the tile, so that stores are coalesced.
// Accumulation: f32, k in order, whatever the shape. Tensor cores are not used yet.
// Tuning: kTile, kDepth, untuned: not run on a GPU yet.
#include "device/activation.cuh"
#include "device/block.cuh"
#include "device/vector.cuh"
#include "gemm_few_rows.h"
#include "launch.h"
#include "matmul_library.h"
#include "rows.h"

namespace ondol::ONDOL_CUDA_SPACE {
namespace {

constexpr int kTile = 64;
constexpr int kDepth = 16;
constexpr int kSide = 16;  // threads along each side of the tile
constexpr int kThreads = kSide * kSide;
constexpr int kEach = kTile / kSide;
constexpr int kPitch = kTile + 1;  // panels are written along either dimension; one more column spreads the banks

/// Element (outer, depth) of an operand for panel[depth][outer]; zero outside. `depth_inside`: depth runs along memory.
template <class T>
__device__ void load_panel(float* panel, const T* source, int64_t ld, bool depth_inside, int64_t outer0, int64_t outers,
                           int64_t depth0, int64_t depths) {
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kDepth; e += kThreads) {
    const int outer = depth_inside ? e / kDepth : e % kTile;
    const int depth = depth_inside ? e % kDepth : e / kTile;
    const int64_t o = outer0 + outer, d = depth0 + depth;
    float value = 0.0f;
    if (o < outers && d < depths) value = to_float(depth_inside ? source[o * ld + d] : source[d * ld + o]);
    panel[depth * kPitch + outer] = value;
  }
}

template <class T, class C>
__global__ void gemm_kernel(GemmArgs args) {
  SharedMemory shared;
  float* panel_a = shared.take<float>(kDepth * kPitch);
  float* panel_b = shared.take<float>(kDepth * kPitch);
  const int64_t tiles_n = (args.n + kTile - 1) / kTile;
  const int64_t tiles_m = (args.m + kTile - 1) / kTile;
  const int64_t matrix = blockIdx.x / (tiles_m * tiles_n);
  const int64_t tile = blockIdx.x - matrix * tiles_m * tiles_n;
  const int64_t i0 = tile / tiles_n * kTile, j0 = tile % tiles_n * kTile;
  const T* a = static_cast<const T*>(args.a) + matrix * args.stride_a;
  const T* b = static_cast<const T*>(args.b) + matrix * args.stride_b;
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;

  float sum[kEach][kEach] = {};
  for (int64_t l0 = 0; l0 < args.k; l0 += kDepth) {
    load_panel(panel_a, a, args.lda, !args.trans_a, i0, args.m, l0, args.k);
    load_panel(panel_b, b, args.ldb, args.trans_b, j0, args.n, l0, args.k);
    block_barrier();
#pragma unroll
    for (int l = 0; l < kDepth; ++l) {
      float row[kEach], column[kEach];
#pragma unroll
      for (int r = 0; r < kEach; ++r) row[r] = panel_a[l * kPitch + y + r * kSide];
#pragma unroll
      for (int s = 0; s < kEach; ++s) column[s] = panel_b[l * kPitch + x + s * kSide];
#pragma unroll
      for (int r = 0; r < kEach; ++r) {
#pragma unroll
        for (int s = 0; s < kEach; ++s) sum[r][s] += row[r] * column[s];
      }
    }
    block_barrier();
  }

  C* c = static_cast<C*>(args.c) + matrix * args.stride_c;
  const int64_t offset = matrix * args.stride_c;
#pragma unroll  // or the sums would be indexed, and so kept in local memory
  for (int r = 0; r < kEach; ++r) {
#pragma unroll
    for (int s = 0; s < kEach; ++s) {
      const int64_t i = i0 + y + r * kSide, j = j0 + x + s * kSide;
      if (i >= args.m || j >= args.n) continue;
      const int64_t at = i * args.ldc + j;
      float value = args.alpha * sum[r][s];
      if (args.bias != nullptr) value += to_float(static_cast<const T*>(args.bias)[j]);
      if (args.pre_activation != nullptr) static_cast<C*>(args.pre_activation)[offset + at] = from_float<C>(value);
      value = gemm_activation(args.epilogue, value);
      if (args.residual != nullptr) value += to_float(static_cast<const C*>(args.residual)[offset + at]);
      if (args.beta != 0.0f) value += args.beta * to_float(c[at]);
      c[at] = from_float<C>(value);
    }
  }
}

template <class T>
void gemm(const GemmArgs& args, Stream stream) {
  const int64_t tiles = (args.m + kTile - 1) / kTile * ((args.n + kTile - 1) / kTile) * args.batch;
  if (tiles == 0) return;
  if (few_rows_gemm(args, dtype_of<T>::value, stream) || library_gemm(args, dtype_of<T>::value, stream)) return;
  launch("gemm", args.c_dtype == DType::f32 ? gemm_kernel<T, float> : gemm_kernel<T, T>, blocks_for("gemm", tiles, 1),
         kThreads, 2 * shared_bytes<float>(kDepth * kPitch), stream, args);
}

}  // namespace

void add_gemm_rows(KernelTable& table) {
  table.gemm.set(DType::f32, gemm<float>);
  table.gemm.set(DType::bf16, gemm<bfloat16>);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
