// cross_entropy, cross_entropy_backward.
#include <ondol/base/parallel.h>

#include "backend/cpu/kernels/row_statistics.h"
#include "backend/cpu/kernels/rows.h"

namespace ondol::cpu::ONDOL_ISA {
namespace {

template <class T>
void cross_entropy(const CrossEntropyArgs& args, Stream) {
  const float smoothing = args.label_smoothing;
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = static_cast<const T*>(args.logits) + row * args.row_stride;
      const float largest = row_max(logits, args.cols);
      const float lse = largest + scalar_log(row_sum_exp(logits, args.cols, largest));
      const int32_t label = args.labels[row];
      args.lse[row] = lse;
      if (label == args.ignore_index) {
        args.loss[row] = 0.0f;
        continue;
      }
      args.loss[row] = lse - static_cast<float>(logits[label]);
      if (smoothing > 0.0f) {
        const float mean = row_sum(logits, args.cols) / static_cast<float>(args.cols);
        args.loss[row] += smoothing * (static_cast<float>(logits[label]) - mean);
      }
    }
  });
}

template <class T>
void cross_entropy_backward(const CrossEntropyBackwardArgs& args, Stream) {
  const float scale = args.scale * (args.grad_scale == nullptr ? 1.0f : *args.grad_scale);
  const float smoothing = args.label_smoothing, share = smoothing / static_cast<float>(args.cols);  // of every class
  parallel_for(args.rows, rows_per_piece(args.cols), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* logits = static_cast<const T*>(args.logits) + row * args.row_stride;
      T* grad = static_cast<T*>(args.grad_logits) + row * args.grad_row_stride;
      const int32_t label = args.labels[row];
      if (label == args.ignore_index) {
        for_each_vector(args.cols, [&](int64_t i, auto n) { store_lanes(grad + i, splat(0.0f), n); });
        continue;
      }
      const float lse = args.lse[row];
      const float at_label = (scalar_exp(static_cast<float>(logits[label]) - lse) - (1.0f - smoothing + share)) * scale;
      for_each_vector(args.cols, [&](int64_t i, auto n) {
        store_lanes(grad + i, (exp(load_lanes(logits + i, n) - splat(lse)) - splat(share)) * splat(scale), n);
      });
      store_n(grad + label, splat(at_label), 1);
    }
  });
}

}  // namespace

void add_cross_entropy_rows(KernelTable& table) {
  table.cross_entropy.set(DType::f32, cross_entropy<float>);
  table.cross_entropy.set(DType::bf16, cross_entropy<bfloat16>);
  table.cross_entropy_backward.set(DType::f32, cross_entropy_backward<float>);
  table.cross_entropy_backward.set(DType::bf16, cross_entropy_backward<bfloat16>);
}

}  // namespace ondol::cpu::ONDOL_ISA
