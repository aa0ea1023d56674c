// The instruction sets that the CPU kernels are compiled for. CMake compiles src/backend/cpu/kernels/*.cpp once for each
// with ONDOL_ISA naming the namespace; everything in those files lives in ondol::cpu::ONDOL_ISA (no standard containers
// there: an inline function compiled with wider instructions could be picked by the linker for all).
#pragma once

#include <string>

#include "backend/kernel_table.h"

#define ONDOL_FOR_EACH_ISA_DECLARE(isa) \
  namespace ondol::cpu::isa {           \
  void fill_table(KernelTable& table);  \
  }
ONDOL_FOR_EACH_ISA_DECLARE(portable)
ONDOL_FOR_EACH_ISA_DECLARE(avx2)
ONDOL_FOR_EACH_ISA_DECLARE(avx512)
ONDOL_FOR_EACH_ISA_DECLARE(amx)  // replaces the rows that gain from matrix tiles
#undef ONDOL_FOR_EACH_ISA_DECLARE

namespace ondol::cpu {

/// The best instruction set of this machine that the build has: "portable", "avx2", "avx512" or "amx".
/// The environment variable ONDOL_CPU_ISA names a lesser one for tests.
const std::string& active_isa();

/// What the processor and the operating system offer, for `ondol doctor`: "avx2 fma avx512f … amx_bf16".
std::string cpu_features();

}  // namespace ondol::cpu
