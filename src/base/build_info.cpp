// The one file that looks at what the build was configured with; the definitions come from tools/cmake.
#include <ondol/base/build_info.h>

#include <ondol/base/error.h>

namespace ondol {

namespace {

std::string compiler_name() {
#if defined(__clang__)
  return concat("Clang ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__);
#elif defined(__GNUC__)
  return concat("GCC ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

BuildInfo collect() {
  BuildInfo info;
  info.version = ONDOL_VERSION;
  info.build_type = ONDOL_BUILD_TYPE;
  info.compiler = compiler_name();
#if defined(ONDOL_BUILD_CUDA)
  info.cuda = ONDOL_BUILD_CUDA;
  info.cuda_architectures = ONDOL_BUILD_CUDA_ARCHITECTURES;
#endif
#if defined(ONDOL_BUILD_NCCL)
  info.nccl = ONDOL_BUILD_NCCL;
#endif
#if defined(ONDOL_BUILD_MPI)
  info.mpi = ONDOL_BUILD_MPI;
#endif
#if defined(ONDOL_BUILD_NVTX)
  info.nvtx = ONDOL_BUILD_NVTX;
#endif
#if defined(ONDOL_HAS_ISA_portable)
  info.cpu_instruction_sets.push_back("portable");
#endif
#if defined(ONDOL_HAS_ISA_avx2)
  info.cpu_instruction_sets.push_back("avx2");
#endif
#if defined(ONDOL_HAS_ISA_avx512)
  info.cpu_instruction_sets.push_back("avx512");
#endif
#if defined(ONDOL_HAS_ISA_amx)
  info.cpu_instruction_sets.push_back("amx");
#endif
  return info;
}

}  // namespace

const BuildInfo& build_info() {
  static const BuildInfo info = collect();
  return info;
}

}  // namespace ondol
