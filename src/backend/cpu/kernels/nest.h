// Loop nests over strided operands: neighbouring dimensions that are dense in every operand are merged, so that most
// calls come down to one or two loops.
#pragma once

#include <cstdint>

#include <ondol/base/parallel.h>

#include "backend/kernel_args.h"

namespace ondol::cpu::ONDOL_ISA {

/// N operands over one shape; the innermost dimension is the last. Always has at least one dimension.
template <int N>
struct Nest {
  int ndim = 0;
  int64_t shape[kMaxDims];
  int64_t stride[N][kMaxDims];

  Nest(int given_ndim, const int64_t* given_shape, const int64_t* const (&given_stride)[N]) {
    for (int d = 0; d < given_ndim; ++d) {
      if (given_shape[d] == 1) continue;
      bool merges = ndim > 0;
      for (int i = 0; merges && i < N; ++i) {
        merges = stride[i][ndim - 1] == given_stride[i][d] * given_shape[d];
      }
      const int to = merges ? ndim - 1 : ndim++;
      shape[to] = merges ? shape[to] * given_shape[d] : given_shape[d];
      for (int i = 0; i < N; ++i) stride[i][to] = given_stride[i][d];
    }
    if (ndim == 0) {
      ndim = 1;
      shape[0] = 1;
      for (int i = 0; i < N; ++i) stride[i][0] = 1;
    }
  }

  /// run(offsets, count): `count` elements of the innermost dimension from offsets[i] of operand i. Threads share the
  /// work in pieces of at least about `grain` elements.
  template <class Run>
  void for_each_run(int64_t grain, const Run& run) const {
    const int inner = ndim - 1;
    if (inner == 0) {
      parallel_for(shape[0], grain, [&](int64_t begin, int64_t end) {
        int64_t offsets[N];
        for (int i = 0; i < N; ++i) offsets[i] = begin * stride[i][0];
        run(offsets, end - begin);
      });
      return;
    }
    int64_t rows = 1;
    for (int d = 0; d < inner; ++d) rows *= shape[d];
    if (rows == 0 || shape[inner] == 0) return;
    parallel_for(rows, grain / shape[inner] + 1, [&](int64_t begin, int64_t end) {
      int64_t index[kMaxDims];
      int64_t offsets[N] = {};
      int64_t rest = begin;
      for (int d = inner - 1; d >= 0; --d) {
        index[d] = rest % shape[d];
        rest /= shape[d];
        for (int i = 0; i < N; ++i) offsets[i] += index[d] * stride[i][d];
      }
      for (int64_t row = begin; row < end; ++row) {
        run(offsets, shape[inner]);
        for (int d = inner - 1; d >= 0; --d) {
          for (int i = 0; i < N; ++i) offsets[i] += stride[i][d];
          if (++index[d] < shape[d]) break;
          index[d] = 0;
          for (int i = 0; i < N; ++i) offsets[i] -= shape[d] * stride[i][d];
        }
      }
    });
  }
};

}  // namespace ondol::cpu::ONDOL_ISA
