// A matrix product cut into smaller ones, one for each thread.
#pragma once

#include "backend/cpu/kernels/gemm_micro.h"
#include "backend/cpu/kernels/tasks.h"

namespace ondol::cpu::ONDOL_ISA {

/// `count` slices along the longer side of c, in whole tiles; some may be empty. element_size is that of a, b and bias.
class GemmSlices {
 public:
  GemmSlices(const GemmArgs& args, size_t element_size, int64_t count)
      : args_(args), element_size_(element_size), count_(count), by_rows_(args.m >= args.n) {}

  /// Threads that share a packed a wait for each other and for lines of each other's caches. Packing apart is the
  /// faster way (measured with two threads) as long as it at most doubles what there is to pack.
  bool pay() const {
    const bool packs_a = element_size_ == 2 || args_.trans_a;
    const int64_t longer = larger(args_.m, args_.n), shorter = smaller(args_.m, args_.n);
    return packs_a && count_ > 1 && longer + count_ * shorter <= 2 * (longer + shorter);
  }

  GemmArgs at(int64_t i) const {
    const int64_t length = by_rows_ ? args_.m : args_.n, unit = by_rows_ ? kTileRows : kTileCols;
    const int64_t units = ceil_div(length, unit);
    const int64_t begin = units * i / count_ * unit, end = smaller(length, units * (i + 1) / count_ * unit);
    const int64_t row = by_rows_ ? begin : 0, col = by_rows_ ? 0 : begin;
    const size_t c_size = dtype_size(args_.c_dtype);
    GemmArgs slice = args_;
    (by_rows_ ? slice.m : slice.n) = end - begin;
    slice.a = behind(args_.a, element_size_, args_.trans_a ? row : row * args_.lda);
    slice.b = behind(args_.b, element_size_, args_.trans_b ? col * args_.ldb : col);
    slice.bias = behind(args_.bias, element_size_, col);
    slice.c = behind(args_.c, c_size, row * args_.ldc + col);
    slice.residual = behind(args_.residual, c_size, row * args_.ldc + col);
    slice.pre_activation = behind(args_.pre_activation, c_size, row * args_.ldc + col);
    return slice;
  }

 private:
  static const void* behind(const void* data, size_t size, int64_t count) {
    return data == nullptr ? nullptr : static_cast<const char*>(data) + count * static_cast<int64_t>(size);
  }
  static void* behind(void* data, size_t size, int64_t count) {
    return const_cast<void*>(behind(static_cast<const void*>(data), size, count));
  }

  const GemmArgs& args_;
  const size_t element_size_;
  const int64_t count_;
  const bool by_rows_;
};

}  // namespace ondol::cpu::ONDOL_ISA
