// What compute capability 9.0 adds, for emulated CUDA threads: barriers in shared memory that count arrivals and bytes
// (mbarrier), barriers of a part of the block, copies of boxes of a tensor (cp.async.bulk.tensor), products of four
// warps (wgmma) and registers that change hands (setmaxnreg). Formats and layouts are those of the PTX ISA.
//
// What it checks that a GPU would not say:
//  - a barrier that is not initialised, takes more arrivals than it expects or is waited for in vain;
//  - the target of a copy holds NaN until the copy is done, which is at a random time; a block must outlive its copies;
//  - accumulators hold NaN from a product to the wait that covers it, and neither they nor a left operand in registers
//    may change until then, nor what a product reads of shared memory;
//  - a product without wgmma.fence since the last wait, other operands in one warp than in the others of its group;
//  - what ordinary stores have put into shared memory is seen by products after fence.proxy.async alone;
//  - registers that nobody has given back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace ondol::emulation {

// hopper_barriers.cpp

void mbarrier_init(uint64_t* barrier, unsigned arrivals);
/// One arrival, after adding `bytes` to those that copies have yet to bring.
void mbarrier_arrive(uint64_t* barrier, unsigned bytes);
/// For copies: bytes that have come.
void mbarrier_complete(uint64_t* barrier, unsigned bytes);
/// Waits until the phase with this parity is over.
void mbarrier_wait(uint64_t* barrier, unsigned parity);

/// Barrier 1 ... 15 of `threads` threads; those that only arrive go on at once.
void named_barrier(int number, int threads, bool wait);

/// The registers of each thread of the running warp from now on.
void set_registers(int registers);

// hopper_copies.cpp

/// What a copy has to know of a tensor of 16-bit elements. A box of 64 x rows ... elements arrives as rows of 128 bytes
/// whose 16-byte units are permuted (128-byte swizzle); zeros outside the tensor.
struct BoxedTensor {
  const void* data;
  std::array<int64_t, 4> sizes;
  std::array<int64_t, 3> strides;  // of dimensions 1 ... 3, in elements
  std::array<int, 4> box;
};
/// The limits of cuTensorMapEncodeTiled.
bool can_be_boxed(const BoxedTensor& tensor);
void copy_box(void* shared, const BoxedTensor& tensor, const std::array<int, 4>& at, uint64_t* barrier);
/// fence.proxy.async: what ordinary stores have written so far is seen by copies and products.
void fence_async_proxy();

/// The address of shared memory as instructions see it, and back.
uint32_t shared_address(const void* pointer);
unsigned char* shared_pointer(uint32_t address, size_t bytes, const char* what);
/// Throws unless `bytes` there are the same for ordinary accesses and for products.
void check_async_view(const unsigned char* at, size_t bytes);

// hopper_products.cpp

/// d (64 x 8 blocks) += a (64 x 16) b (16 x 8 blocks), or = without `accumulate`. a is in registers or named by a
/// matrix descriptor, as b is; b is N-major if `transposed_b`, else K-major.
struct Product {
  float* d;
  int blocks;
  const uint32_t* a;  // null: the descriptor
  uint64_t descriptor_a, descriptor_b;
  bool accumulate, transposed_b;
};
void start_product(const Product& product);
void fence_products();
void commit_products();
void wait_products(int pending_groups);

}  // namespace ondol::emulation
