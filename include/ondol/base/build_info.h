// What this build contains; `ondol doctor` prints it.
//
//   std::cout << build_info().version << " CUDA " << (build_info().cuda.empty() ? "none" : build_info().cuda);
#pragma once

#include <string>
#include <vector>

namespace ondol {

struct BuildInfo {
  std::string version;                            // of ondol
  std::string build_type;                         // "Release", ...
  std::string compiler;                           // "GCC 12.2.0"
  std::string cuda;                               // version of the toolkit; empty: no CUDA backend
  std::string cuda_architectures;                 // as CMake names them, "80,90a-real"
  std::string nccl;                               // version; empty: none
  std::string mpi;                                // version of the standard; empty: none
  std::string nvtx;                               // version of the headers; empty: no ranges for profilers
  std::vector<std::string> cpu_instruction_sets;  // those that CPU kernels were compiled for, the least first
};

const BuildInfo& build_info();

}  // namespace ondol
