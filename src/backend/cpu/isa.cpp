#include "backend/cpu/isa.h"

#include <cstdlib>

#include <ondol/base/error.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ondol::cpu {

namespace {

#if defined(__x86_64__)
struct CpuidLeaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  CpuidLeaf(unsigned leaf, unsigned subleaf) { __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx); }
};

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() { return (CpuidLeaf(7, 1).eax >> 5) & 1; }

/// The processor has AMX-BF16 and Linux grants this process the tile registers (arch_prctl ARCH_REQ_XCOMP_PERM).
bool has_amx() {
  const CpuidLeaf leaf(7, 0);
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return ((leaf.edx >> 22) & 1) && ((leaf.edx >> 24) & 1) &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

int isa_rank(const std::string& isa) {
  const char* order[] = {"portable", "avx2", "avx512", "amx"};
  for (int i = 0; i < 4; ++i) {
    if (isa == order[i]) return i;
  }
  throw UsageError(concat("unknown instruction set \"", isa, "\" (ONDOL_CPU_ISA)"), "use avx2, avx512 or amx");
}

std::string detect() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    throw Error("this processor has no AVX2: ondol needs it on x86-64");
  }
  if (!has_avx512()) return "avx2";
  return has_amx() && has_avx512_bf16() ? "amx" : "avx512";
#else
  return "portable";
#endif
}

}  // namespace

const std::string& active_isa() {
  static const std::string chosen = [] {
    const std::string best = detect();
    const char* wanted = std::getenv("ONDOL_CPU_ISA");
    if (wanted == nullptr || *wanted == '\0') return best;
    if (isa_rank(wanted) > isa_rank(best) || (isa_rank(best) > 0 && isa_rank(wanted) == 0)) {
      throw UsageError(concat("this machine cannot run instruction set \"", wanted, "\" (ONDOL_CPU_ISA)"),
                       concat("the best here is ", best));
    }
    return std::string(wanted);
  }();
  return chosen;
}

std::string cpu_features() {
#if defined(__x86_64__)
  std::string out;
  const auto add = [&out](bool present, const char* name) {
    if (present) out += (out.empty() ? "" : " ") + std::string(name);
  };
  add(__builtin_cpu_supports("avx2"), "avx2");
  add(__builtin_cpu_supports("fma"), "fma");
  add(__builtin_cpu_supports("avx512f"), "avx512f");
  add(__builtin_cpu_supports("avx512bw"), "avx512bw");
  add(__builtin_cpu_supports("avx512vnni"), "avx512_vnni");
  add(has_avx512_bf16(), "avx512_bf16");
  add(has_amx(), "amx_bf16");
  return out;
#else
  return "portable";
#endif
}

}  // namespace ondol::cpu
