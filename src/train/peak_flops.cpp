#include "train/peak_flops.h"

#include <algorithm>
#include <ctime>
#include <numeric>
#include <vector>

#include <ondol/base/parallel.h>

#include "backend/cpu/isa.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ondol {

namespace {

constexpr int64_t kIterations = 200000;  // about 1 ms

constexpr int64_t kChains = 12;

#if defined(__x86_64__)
// Twelve independent chains hide the latency of a multiply-add on two ports.
#define ONDOL_FMA_CHAINS(vector, set, fma)                                                                          \
  vector a0 = set(1.0f), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0, a10 = a0, \
         a11 = a0;                                                                                                  \
  const vector x = set(0.999f), y = set(0.001f);                                                                    \
  for (int64_t i = 0; i < kIterations; ++i) {                                                                       \
    a0 = fma(a0, x, y), a1 = fma(a1, x, y), a2 = fma(a2, x, y), a3 = fma(a3, x, y);                                 \
    a4 = fma(a4, x, y), a5 = fma(a5, x, y), a6 = fma(a6, x, y), a7 = fma(a7, x, y);                                 \
    a8 = fma(a8, x, y), a9 = fma(a9, x, y), a10 = fma(a10, x, y), a11 = fma(a11, x, y);                             \
    __asm__ volatile("" : "+v"(a0), "+v"(a1), "+v"(a2), "+v"(a3), "+v"(a4), "+v"(a5));                              \
    __asm__ volatile("" : "+v"(a6), "+v"(a7), "+v"(a8), "+v"(a9), "+v"(a10), "+v"(a11));                            \
  }

__attribute__((target("avx512f"))) void run_avx512() { ONDOL_FMA_CHAINS(__m512, _mm512_set1_ps, _mm512_fmadd_ps) }
__attribute__((target("avx2,fma"))) void run_avx2() { ONDOL_FMA_CHAINS(__m256, _mm256_set1_ps, _mm256_fmadd_ps) }
#undef ONDOL_FMA_CHAINS
#endif

/// Floats of a vector, and the loop; no loop: unknown instruction set.
struct Probe {
  int64_t lanes = 0;
  void (*run)() = nullptr;
};

Probe probe_of([[maybe_unused]] const std::string& isa) {
#if defined(__x86_64__)
  if (isa == "avx512" || isa == "amx") return {16, run_avx512};
  if (isa == "avx2") return {8, run_avx2};
#endif
  return {};
}

/// Of the calling thread, in its own CPU time, so that other processes on the machine do not count.
double best_rate(const Probe& probe) {
  const auto cpu_seconds = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  double best = 0.0;
  for (int trial = 0; trial < 6; ++trial) {
    const double start = cpu_seconds();
    probe.run();
    const double seconds = std::max(cpu_seconds() - start, 1e-9);
    best = std::max(best, static_cast<double>(2 * kChains * kIterations * probe.lanes) / seconds);
  }
  return best;
}

}  // namespace

std::optional<double> measured_peak_flops(Device device, DType dtype) {
  if (device.type != DeviceType::cpu) return std::nullopt;
  const std::string& isa = cpu::active_isa();
  const Probe probe = probe_of(isa);
  if (probe.run == nullptr || (isa == "amx" && dtype != DType::f32)) return std::nullopt;
  const auto threads = static_cast<size_t>(num_threads());
  std::vector<double> rates(threads, 0.0);
  parallel_for(static_cast<int64_t>(threads), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) rates[static_cast<size_t>(i)] = best_rate(probe);
  });
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

}  // namespace ondol
