// The rows of the CPU table, compiled once per instruction set.
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {

void fill_table(KernelTable& table) {
  add_memory_rows(table);
  add_gemm_rows(table);
}

}  // namespace ondol::cpu::ONDOL_ISA
