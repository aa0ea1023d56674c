// Working memory of the CPU kernels: one buffer per thread and purpose, kept between calls so that no kernel allocates.
#pragma once

#include <cstddef>

namespace ondol::cpu {

enum class ScratchSlot : int { packed_a, packed_b, task, partial_sums, counters, attention, count };

/// At least `bytes` bytes, 64-byte aligned, uninitialised, valid until this thread asks for the same slot again.
/// Other threads of a parallel region may use it while its owner waits for them. Throws Error when memory is short.
void* thread_scratch(ScratchSlot slot, size_t bytes);

}  // namespace ondol::cpu
