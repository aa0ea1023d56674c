// The kernel's form of an RngKey.
#pragma once

#include <ondol/ops/dropout.h>

#include "ops/checks.h"

namespace ondol::ops {

inline RngArgs rng_args(const char* op, const RngKey& key, const Tensor& x) {
  if (!key.step.defined()) return {key.seed, key.stream, nullptr};
  check_dtype(op, "the step of the random key", key.step, DType::i64, x);
  ONDOL_CHECK(key.step.numel() == 1, "[", op, "] the step of the random key has shape ", key.step.shape(),
              ": one element is needed");
  return {key.seed, key.stream, key.step.data<int64_t>()};
}

inline void check_probability(const char* op, float p) {
  ONDOL_CHECK(p >= 0.0f && p < 1.0f, "[", op, "] dropout probability ", p, " is outside [0, 1)");
}

}  // namespace ondol::ops
