// Tensor-core products of four warps (compute capability 9.0, sm_90a). They run in the background; included as
// <device/wgmma.cuh>: the host emulation has its own version.
//
// d (64 x 8 kBlocks, f32) += a (64 x 16) b (16 x 8 kBlocks), or = without `accumulate`; a and b in bf16. Warp w of the
// group holds rows 16w ... 16w + 15 of d and, where a is in registers, of a, as in mma.m16n8k16 (device/ptx.cuh): d[n]
// is the block of columns 8n ... 8n + 7. Operands in shared memory are named by descriptors
// (device/matrix_descriptor.cuh).
//
//   pin_registers(d);                        // also the a of registers
//   wgmma_fence();                           // registers written before may be used
//   wgmma<false>(d, a, b, true);             // any number
//   wgmma_commit();                          // they form a group
//   wgmma_wait<0>();                         // at most so many groups are under way
//   pin_registers(d);
//
// Until the wait nobody may touch d, the a in registers and what the descriptors name. pin_registers keeps the compiler
// from moving work on them over the fence and the wait.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace ondol::ONDOL_CUDA_SPACE {

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

template <int kBlocks>
__device__ inline void pin_registers(float (&d)[kBlocks][4]) {
#pragma unroll
  for (int n = 0; n < kBlocks; ++n) {
    asm volatile("" : "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])::"memory");
  }
}
template <int kBlocks>
__device__ inline void pin_registers(uint32_t (&a)[kBlocks][4]) {
#pragma unroll
  for (int k = 0; k < kBlocks; ++k) {
    asm volatile("" : "+r"(a[k][0]), "+r"(a[k][1]), "+r"(a[k][2]), "+r"(a[k][3])::"memory");
  }
}

/// The compiler forgets what it knows of the value.
__device__ inline void pin_registers(int& value) { asm volatile("" : "+r"(value)); }

// The accumulators of block n as operands of an instruction.
#define ONDOL_BLOCK(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])

/// a and b in shared memory, a K-major; b K-major, or N-major if kTransposedB. 64 columns.
template <bool kTransposedB>
__device__ inline void wgmma(float (&d)[8][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
      "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, %32, %33, accumulate, 1, 1, 0, %35;\n"
      "}"
      : ONDOL_BLOCK(0), ONDOL_BLOCK(1), ONDOL_BLOCK(2), ONDOL_BLOCK(3), ONDOL_BLOCK(4), ONDOL_BLOCK(5), ONDOL_BLOCK(6),
        ONDOL_BLOCK(7)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedB ? 1 : 0)
      : "memory");
}

/// The same with a in registers.
template <bool kTransposedB>
__device__ inline void wgmma(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
      "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, accumulate, 1, 1, %38;\n"
      "}"
      : ONDOL_BLOCK(0), ONDOL_BLOCK(1), ONDOL_BLOCK(2), ONDOL_BLOCK(3), ONDOL_BLOCK(4), ONDOL_BLOCK(5), ONDOL_BLOCK(6),
        ONDOL_BLOCK(7)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedB ? 1 : 0)
      : "memory");
}

/// a and b in shared memory, a K-major; b K-major, or N-major if kTransposedB. 128 columns.
template <bool kTransposedB>
__device__ inline void wgmma(float (&d)[16][4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
      "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
      "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
      "%62, %63"
      "}, %64, %65, accumulate, 1, 1, 0, %67;\n"
      "}"
      : ONDOL_BLOCK(0), ONDOL_BLOCK(1), ONDOL_BLOCK(2), ONDOL_BLOCK(3), ONDOL_BLOCK(4), ONDOL_BLOCK(5), ONDOL_BLOCK(6),
        ONDOL_BLOCK(7), ONDOL_BLOCK(8), ONDOL_BLOCK(9), ONDOL_BLOCK(10), ONDOL_BLOCK(11), ONDOL_BLOCK(12),
        ONDOL_BLOCK(13), ONDOL_BLOCK(14), ONDOL_BLOCK(15)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedB ? 1 : 0)
      : "memory");
}

/// The same with a in registers.
template <bool kTransposedB>
__device__ inline void wgmma(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred accumulate;\n"
      "setp.ne.b32 accumulate, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
      "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
      "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
      "%62, %63"
      "}, {%64, %65, %66, %67}, %68, accumulate, 1, 1, %70;\n"
      "}"
      : ONDOL_BLOCK(0), ONDOL_BLOCK(1), ONDOL_BLOCK(2), ONDOL_BLOCK(3), ONDOL_BLOCK(4), ONDOL_BLOCK(5), ONDOL_BLOCK(6),
        ONDOL_BLOCK(7), ONDOL_BLOCK(8), ONDOL_BLOCK(9), ONDOL_BLOCK(10), ONDOL_BLOCK(11), ONDOL_BLOCK(12),
        ONDOL_BLOCK(13), ONDOL_BLOCK(14), ONDOL_BLOCK(15)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedB ? 1 : 0)
      : "memory");
}

#undef ONDOL_BLOCK

}  // namespace ondol::ONDOL_CUDA_SPACE
