// The kernel table: what a backend is. One struct of function pointers, a row for each kernel, looked up by dtype.
// To add a row: an argument struct in kernel_args.h, one line in ONDOL_KERNEL_ROWS, an entry in the table of each
// backend.
#pragma once

#include <ondol/base/device.h>
#include <ondol/base/dtype.h>

#include "backend/kernel_args.h"
#include "backend/kernel_ranges.h"

namespace ondol {

/// A backend's queue: a cudaStream_t on CUDA, null on the CPU.
using Stream = void*;

/// One row: an entry for each dtype, empty where the backend has none.
template <class Args>
struct KernelRow {
  using Function = void (*)(const Args& args, Stream stream);

  const char* name;
  Function by_dtype[kNumDTypes] = {};

  void set(DType dtype, Function function) { by_dtype[static_cast<int>(dtype)] = function; }
  Function get(DType dtype) const { return by_dtype[static_cast<int>(dtype)]; }
};

// X(row name, argument struct)
#define ONDOL_KERNEL_ROWS(X)                          \
  X(fill, FillArgs)                                   \
  X(copy, CopyArgs)                                   \
  X(binary, BinaryArgs)                               \
  X(unary, UnaryArgs)                                 \
  X(unary_backward, UnaryBackwardArgs)                \
  X(reduce, ReduceArgs)                               \
  X(softmax, SoftmaxArgs)                             \
  X(softmax_backward, SoftmaxBackwardArgs)            \
  X(cross_entropy, CrossEntropyArgs)                  \
  X(cross_entropy_backward, CrossEntropyBackwardArgs) \
  X(distillation, DistillationArgs)                   \
  X(replace_tokens, ReplaceTokensArgs)                \
  X(embedding, EmbeddingArgs)                         \
  X(embedding_backward, EmbeddingBackwardArgs)        \
  X(rms_norm, NormArgs)                               \
  X(rms_norm_backward, NormBackwardArgs)              \
  X(layer_norm, NormArgs)                             \
  X(layer_norm_backward, NormBackwardArgs)            \
  X(rope, RopeArgs)                                   \
  X(glu, GluArgs)                                     \
  X(glu_backward, GluBackwardArgs)                    \
  X(dropout, DropoutArgs)                             \
  X(gemm, GemmArgs)                                   \
  X(quant_gemm, QuantGemmArgs)                        \
  X(dequantize, DequantizeArgs)                       \
  X(attention, AttentionArgs)                         \
  X(attention_backward, AttentionBackwardArgs)        \
  X(cache_append, CacheAppendArgs)                    \
  X(gather, GatherArgs)                               \
  X(scatter_add, ScatterAddArgs)                      \
  X(argmax, ArgmaxArgs)                               \
  X(sample, SampleArgs)                               \
  X(block_squares, BlockSquaresArgs)                  \
  X(sum_all, SumAllArgs)                              \
  X(clip_gradient, ClipGradientArgs)                  \
  X(adamw, AdamwArgs)                                 \
  X(lion, LionArgs)                                   \
  X(lamb, LambArgs)                                   \
  X(adafactor, AdafactorArgs)                         \
  X(ema, EmaArgs)                                     \
  X(sgd, SgdArgs)

struct KernelTable {
#define ONDOL_DECLARE_ROW(row, Args) KernelRow<Args> row{#row};
  ONDOL_KERNEL_ROWS(ONDOL_DECLARE_ROW)
#undef ONDOL_DECLARE_ROW
};

/// The table of a device's backend. Throws when the build or the machine has no such device.
const KernelTable& kernel_table(Device device);

/// The stream that kernels of this device run on.
Stream current_stream(Device device);

/// Throws `[row] no cuda kernel for bf16`.
[[noreturn]] void throw_missing_kernel(const char* row, Device device, DType dtype);

/// Runs one row: call(&KernelTable::rms_norm, device, dtype, args).
template <class Args>
void run_kernel(KernelRow<Args> KernelTable::*row, Device device, DType dtype, const Args& args) {
  const KernelRow<Args>& entry = kernel_table(device).*row;
  const auto function = entry.get(dtype);
  if (function == nullptr) throw_missing_kernel(entry.name, device, dtype);
  const KernelRange range(entry.name);
  function(args, current_stream(device));
}

}  // namespace ondol
