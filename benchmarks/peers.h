// Other libraries of the machine, looked up at run time so that the benchmarks build without them, and the measured
// peak that results are a share of.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include <dlfcn.h>

namespace ondol::bench {

using CblasSgemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a,
                            int lda, const float* b, int ldb, float beta, float* c, int ldc);
using DnnlSgemm = int (*)(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
                          int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

/// A function of a shared library; null when the machine lacks it.
template <class Function>
Function find_function(const char* library, const char* name) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  return handle == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(handle, name));
}

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The fused multiply-adds that one thread does on registers alone, in floating-point operations.
inline double spin_fma(int64_t rounds) {
  typedef float Vector __attribute__((vector_size(64)));
  Vector sum[24];
  for (int j = 0; j < 24; ++j) sum[j] = Vector{} + static_cast<float>(j);
  const Vector x = Vector{} + 1.0001f, y = Vector{} + 0.9f;
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int j = 0; j < 24; ++j) sum[j] = sum[j] * x + y;
  }
  for (Vector& s : sum) asm volatile("" : : "m"(s));
  return static_cast<double>(rounds) * 24 * 32;
}

/// GFLOP/s of `threads` threads, the best of several rounds. Only right where the compiler fuses and has 32 registers.
inline double fma_peak(int threads) {
  constexpr int64_t kRounds = 400000;
  double best = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::vector<std::thread> team;
    std::vector<double> rate(threads);
    for (int t = 0; t < threads; ++t) {
      team.emplace_back([&rate, t] {
        spin_fma(kRounds / 4);
        const double begin = seconds_now();
        const double flops = spin_fma(kRounds);
        rate[t] = flops / (seconds_now() - begin) * 1e-9;
      });
    }
    for (std::thread& thread : team) thread.join();
    double sum = 0;
    for (double r : rate) sum += r;
    best = std::max(best, sum);
  }
  return best;
}

}  // namespace ondol::bench
