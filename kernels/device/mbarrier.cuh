// Barriers of compute capability 9.0 that are waited for by one part of a block while another goes on, and registers
// that change hands between the parts. Included as <device/mbarrier.cuh>: the host emulation has its own version.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

namespace ondol::ONDOL_CUDA_SPACE {

/// In shared memory: counts arrivals and bytes of asynchronous copies (PTX ISA, "mbarrier"). Phases begin with number
/// 0; a phase is over when all arrivals have come and no bytes are missing, and the next one begins.
struct alignas(8) Mbarrier {
  uint64_t state;
};

__device__ inline uint32_t mbarrier_address(const Mbarrier* barrier) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(barrier));
}

/// By one thread; nobody uses the barrier before mbarrier_publish by that thread and a barrier of the block.
__device__ inline void mbarrier_init(Mbarrier* barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mbarrier_address(barrier)), "r"(arrivals) : "memory");
}

/// Shows barriers that this thread has initialised to copies too.
__device__ inline void mbarrier_publish() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ inline void mbarrier_arrive(Mbarrier* barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(mbarrier_address(barrier)) : "memory");
}

/// One arrival, and `bytes` more that copies will bring in this phase.
__device__ inline void mbarrier_arrive_expect(Mbarrier* barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(mbarrier_address(barrier)),
               "r"(bytes)
               : "memory");
}

/// Waits until the current phase is not `parity` (number modulo 2) any more: with 1 a fresh barrier lets everybody
/// pass.
__device__ inline void mbarrier_wait(Mbarrier* barrier, unsigned parity) {
  uint32_t over;
  do {
    asm volatile(
        "{\n"
        ".reg .pred over;\n"
        "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 over, [%1], %2;\n"
        "selp.u32 %0, 1, 0, over;\n"
        "}"
        : "=r"(over)
        : "r"(mbarrier_address(barrier)), "r"(parity)
        : "memory");
  } while (over == 0);
}

/// Barrier `number` (1 ... 15) of kThreads threads, whole warps: those that sync wait for all of them, those that
/// arrive go on.
template <int kThreads>
__device__ inline void named_barrier_sync(int number) {
  static_assert(kThreads % 32 == 0);
  asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(kThreads) : "memory");
}
template <int kThreads>
__device__ inline void named_barrier_arrive(int number) {
  static_assert(kThreads % 32 == 0);
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "n"(kThreads) : "memory");
}

/// All four warps of a group leave themselves kRegisters registers a thread, or take that many as soon as others have
/// given them back. The kernel needs __launch_bounds__(threads, 1).
template <int kRegisters>
__device__ inline void give_registers_back() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace ondol::ONDOL_CUDA_SPACE
