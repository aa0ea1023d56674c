// Instructions of compute capability 8.0 that C++ has no name for: tensor-core products, matrix loads, asynchronous
// copies. Beside it mbarrier.cuh, tensor_copy.cuh and wgmma.cuh alone hold inline PTX. It is included as <device/ptx.cuh>,
// so that the host emulation can put its own version of these functions in its place.
//
// Fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"), g = lane / 4 and
// t = lane % 4, two bf16 to a register with the lower index in the lower half:
//   a (16 x 16): a[0] (g, 2t..), a[1] (g + 8, 2t..), a[2] (g, 2t + 8..), a[3] (g + 8, 2t + 8..)
//   b (16 x 8):  b0 (2t.., g), b1 (2t + 8.., g)
//   c (16 x 8):  c[0], c[1] (g, 2t and 2t + 1), c[2], c[3] (g + 8, 2t and 2t + 1)
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace ondol::ONDOL_CUDA_SPACE {

/// c += a b for bf16 operands and f32 sums; the whole warp takes part.
__device__ inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Four 8 x 8 matrices of 16-bit elements from shared memory. Lane l names row l % 8 of matrix l / 8 (16 bytes,
/// aligned); out[m] receives the elements (g, 2t) and (g, 2t + 1) of matrix m.
__device__ inline void load_matrices(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// The same with each matrix transposed: out[m] receives the elements (2t, g) and (2t + 1, g).
__device__ inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

/// Starts a copy of 16 bytes from global to shared memory, both aligned to 16; zeros when `present` is false (the
/// source is then not read). The data is there for this thread after wait_copies, for others after a barrier as well.
__device__ inline void copy_async_16(void* shared, const void* global, bool present) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global), "r"(present ? 16 : 0)
      : "memory");
}

/// The same for 4 bytes.
__device__ inline void copy_async_4(void* shared, const void* global, bool present) {
  asm volatile(
      "cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(global), "r"(present ? 4 : 0)
      : "memory");
}

/// The copies that this thread has started since the last call form a group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most the kPending latest groups of this thread are under way.
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Two bf16 in one register, rounded to nearest even.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

/// 2^x with a relative error of about 2^-22; results below 2^-126 become 0.
__device__ inline float exp2_fast(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

}  // namespace ondol::ONDOL_CUDA_SPACE
