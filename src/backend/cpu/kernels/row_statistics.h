// Largest element, sum and sum of exponentials of a row, in an order that depends on its length alone: four vector
// accumulators, then a fixed tree.
#pragma once

#include "backend/cpu/kernels/simd.h"

namespace ondol::cpu::ONDOL_ISA {

/// Rows that make up a piece of work worth a thread, about 8192 elements.
inline int64_t rows_per_piece(int64_t cols) { return 8192 / (cols < 1 ? 1 : cols) + 1; }

inline float scalar_log(float x) {
  float lanes[kLanes];
  store(lanes, log(splat(x)));
  return lanes[0];
}
inline float scalar_exp(float x) {
  float lanes[kLanes];
  store(lanes, exp(splat(x)));
  return lanes[0];
}

/// combine(accumulator, i, lanes) over the row with four accumulators that start at `neutral`.
template <class Combine>
inline void accumulate_row(int64_t count, Floats (&sums)[4], Combine&& combine) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    for (int j = 0; j < 4; ++j) sums[j] = combine(sums[j], i + j * kLanes, AllLanes{});
  }
  for_each_vector(i, count, [&](int64_t at, auto n) { sums[0] = combine(sums[0], at, n); });
}

/// -infinity for an empty row; a NaN may or may not show (it does in what is computed from the result).
template <class T>
inline float row_max(const T* in, int64_t count) {
  const Floats lowest = splat(-__builtin_inff());
  Floats best[4] = {lowest, lowest, lowest, lowest};
  accumulate_row(count, best, [&](Floats best_lanes, int64_t i, auto n) {
    return max(best_lanes, keep_lanes(load_lanes(in + i, n), lowest, n));
  });
  return reduce_max(max(max(best[0], best[1]), max(best[2], best[3])));
}

inline float sum_of_four(const Floats (&sums)[4]) { return reduce_sum((sums[0] + sums[1]) + (sums[2] + sums[3])); }

template <class T>
inline float row_sum(const T* in, int64_t count) {
  Floats sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  accumulate_row(count, sums, [&](Floats sum, int64_t i, auto n) { return sum + load_lanes(in + i, n); });
  return sum_of_four(sums);
}

/// Sum of exp(in[i] - shift).
template <class T>
inline float row_sum_exp(const T* in, int64_t count, float shift) {
  Floats sums[4] = {splat(0.0f), splat(0.0f), splat(0.0f), splat(0.0f)};
  accumulate_row(count, sums, [&](Floats sum, int64_t i, auto n) {
    return sum + keep_lanes(exp(load_lanes(in + i, n) - splat(shift)), splat(0.0f), n);
  });
  return sum_of_four(sums);
}

}  // namespace ondol::cpu::ONDOL_ISA
