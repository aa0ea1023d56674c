// Tensor-core products, matrix loads and asynchronous copies of emulated CUDA threads. The layouts are those of the PTX
// ISA (mma.m16n8k16, ldmatrix); products add up in f32 in the order of k.
//
// What it checks that a GPU would not say:
//  - all 32 lanes of a warp must come to the same operation;
//  - rows of matrices and both ends of copies must be aligned, and shared where the instruction wants shared memory;
//  - the target of an asynchronous copy holds NaN from the start of the copy until its thread has waited for it.
#pragma once

#include <cstdint>

namespace ondol::emulation {

void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void load_matrices(uint32_t (&out)[4], const void* row, bool transposed);

/// `bytes` (4 or 16) from global to shared memory, zeros when not present.
void copy_async(void* shared, const void* global, int bytes, bool present);
void commit_copies();
void wait_copies(int pending_groups);

}  // namespace ondol::emulation
