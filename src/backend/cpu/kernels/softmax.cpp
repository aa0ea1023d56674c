// softmax, softmax_backward and the log forms, over contiguous rows.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

template <class T>
void softmax(const SoftmaxArgs& args, Stream) {
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* in = static_cast<const T*>(args.in) + row * args.cols;
      T* out = static_cast<T*>(args.out) + row * args.cols;
      const float largest = row_max(in, args.cols);
      const float total = row_sum_exp(in, args.cols, largest);
      if (args.log) {
        const Floats log_total = splat(scalar_log(total)), shift = splat(largest);
        for_each_vector(args.cols, [&](int64_t i, auto n) {
          store_lanes(out + i, (load_lanes(in + i, n) - shift) - log_total, n);
        });
      } else {
        const Floats factor = splat(1.0f / total), shift = splat(largest);
        for_each_vector(args.cols, [&](int64_t i, auto n) {
          store_lanes(out + i, exp(load_lanes(in + i, n) - shift) * factor, n);
        });
      }
    }
  });
}

template <class T>
void softmax_backward(const SoftmaxBackwardArgs& args, Stream) {
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* grad_out = static_cast<const T*>(args.grad_out) + row * args.cols;
      const T* out = static_cast<const T*>(args.out) + row * args.cols;
      T* grad_in = static_cast<T*>(args.grad_in) + row * args.cols;
      Floats sums = splat(0.0f);
      if (args.log) {
        for_each_vector(args.cols, [&](int64_t i, auto n) { sums = sums + load_lanes(grad_out + i, n); });
        const Floats total = splat(reduce_sum(sums));
        for_each_vector(args.cols, [&](int64_t i, auto n) {
          store_lanes(grad_in + i, load_lanes(grad_out + i, n) - exp(load_lanes(out + i, n)) * total, n);
        });
      } else {
        for_each_vector(args.cols, [&](int64_t i, auto n) {
          sums = fma(load_lanes(grad_out + i, n), load_lanes(out + i, n), sums);
        });
        const Floats total = splat(reduce_sum(sums));
        for_each_vector(args.cols, [&](int64_t i, auto n) {
          store_lanes(grad_in + i, load_lanes(out + i, n) * (load_lanes(grad_out + i, n) - total), n);
        });
      }
    }
  });
}

}  // namespace

void add_softmax_rows(KernelTable& table) {
  table.softmax.set(DType::f32, softmax<float>);
  table.softmax.set(DType::bf16, softmax<bfloat16>);
  table.softmax_backward.set(DType::f32, softmax_backward<float>);
  table.softmax_backward.set(DType::bf16, softmax_backward<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
