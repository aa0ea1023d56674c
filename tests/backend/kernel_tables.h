// The kernel tables of every instruction set that this machine can run, and of CUDA in emulation, for tests that
// compare them.
#pragma once

#include <string>
#include <vector>

#include "backend/cpu/isa.h"
#include "support/cuda_emulation/emulated_cuda.h"

namespace ondol {

struct NamedTable {
  std::string isa;
  KernelTable table;
  bool emulated = false;  // thousands of times slower: tests give it their smaller cases only
  bool library = false;   // matrix products go to a library where it takes them
};

inline std::vector<NamedTable>& kernel_tables_under_test() {
  static std::vector<NamedTable> tables = [] {
    std::vector<NamedTable> list;
#if defined(__x86_64__)
    const auto add = [&list](const char* isa, void (*fill)(KernelTable&)) {
      list.push_back({isa, {}});
      fill(list.back().table);
    };
    add("avx2", cpu::avx2::fill_table);
    if (cpu::active_isa() != "avx2") add("avx512", cpu::avx512::fill_table);
#else
    list.push_back({"portable", {}});
    cpu::portable::fill_table(list.back().table);
#endif
    list.push_back({"emulated cuda", emulated_cuda_table(), true});
    return list;
  }();
  return tables;
}

}  // namespace ondol
