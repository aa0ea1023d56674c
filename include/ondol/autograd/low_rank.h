// Low-rank additions to weights (LoRA, Hu et al. 2021): functions::linear with such a weight computes
//
//   y = act(x W^T + s dropout(x) A^T B^T + bias) + residual
//
//   weight.set_low_rank(std::make_shared<LowRankUpdate>(LowRankUpdate{.a = a, .parts = {{b, 0, 256}}, .scale = 2.0f}));
//
// W may be frozen, also quantised: its gradient is then never formed. A weight whose rows are several tensors of a file
// (query, key, value) has a part for each one that is added to.
#pragma once

#include <vector>

#include <ondol/autograd/variable.h>
#include <ondol/ops/dropout.h>

namespace ondol {

struct LowRankUpdate {
  struct Part {
    Variable b;  // (rows, rank)
    int64_t row_start = 0;
    int64_t rows = 0;
  };
  Variable a;  // (parts rank, in): one block of rows for each part
  std::vector<Part> parts;
  float scale = 1.0f;
  float dropout = 0.0f;  // in training, of what A reads
  uint32_t stream = 0;   // of the dropout's random numbers, beyond that of LowRankDropout
};

/// While it lives, low-rank additions computed on this thread have dropout. Their masks follow from the key, to whose
/// stream each one adds its own.
class LowRankDropout {
 public:
  explicit LowRankDropout(const RngKey& key);
  ~LowRankDropout();
  LowRankDropout(const LowRankDropout&) = delete;
  LowRankDropout& operator=(const LowRankDropout&) = delete;

  /// The key in force on this thread, or null.
  static const RngKey* current();

 private:
  RngKey key_;
  const RngKey* previous_;
};

/// A weight's values as one matrix: quantised rows in plain numbers, the low-rank addition added (without dropout).
Tensor merged_weight(const Variable& weight);

}  // namespace ondol
