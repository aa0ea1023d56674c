// kernels/device/mbarrier.cuh for the host.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "hopper.h"

namespace ondol::ONDOL_CUDA_SPACE {

struct alignas(8) Mbarrier {
  uint64_t state;
};

inline void mbarrier_init(Mbarrier* barrier, unsigned arrivals) { emulation::mbarrier_init(&barrier->state, arrivals); }
inline void mbarrier_publish() {}
inline void mbarrier_arrive(Mbarrier* barrier) { emulation::mbarrier_arrive(&barrier->state, 0); }
inline void mbarrier_arrive_expect(Mbarrier* barrier, unsigned bytes) {
  emulation::mbarrier_arrive(&barrier->state, bytes);
}
inline void mbarrier_wait(Mbarrier* barrier, unsigned parity) { emulation::mbarrier_wait(&barrier->state, parity); }

template <int kThreads>
void named_barrier_sync(int number) {
  emulation::named_barrier(number, kThreads, true);
}
template <int kThreads>
void named_barrier_arrive(int number) {
  emulation::named_barrier(number, kThreads, false);
}

template <int kRegisters>
void give_registers_back() {
  emulation::set_registers(kRegisters);
}
template <int kRegisters>
void take_registers() {
  emulation::set_registers(kRegisters);
}

}  // namespace ondol::ONDOL_CUDA_SPACE
