// Between the files of attention: the form for few queries, and the gradients of keys and values. T is float or
// bfloat16.
#pragma once

#include "backend/kernel_table.h"

namespace ondol::ONDOL_CUDA_SPACE {

/// attention_decode.cu
template <class T>
void attention_decode(const AttentionArgs& args, Stream stream);

/// attention_hopper.cu, for bf16 on a device of compute capability 9.0: false when it does not take these arguments, and
/// nothing has been done.
bool attention_hopper(const AttentionArgs& args, Stream stream);

/// attention_backward_kv.cu; the workspace holds the row sums already.
template <class T>
void attention_backward_kv(const AttentionBackwardArgs& args, Stream stream);

}  // namespace ondol::ONDOL_CUDA_SPACE
