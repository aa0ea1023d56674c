// One function for each kernel file: it enters the file's rows into the table.
#pragma once

#include "backend/cpu/isa.h"

namespace ondol::cpu::ONDOL_ISA {

void add_memory_rows(KernelTable& table);  // memory.cpp: fill, copy
void add_gemm_rows(KernelTable& table);    // gemm.cpp: gemm

}  // namespace ondol::cpu::ONDOL_ISA
