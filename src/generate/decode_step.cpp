#include "generate/decode_step.h"

#include <algorithm>

namespace ondol {

Tensor decode_step(Model& model, KvCache& cache, const std::vector<std::span<const int32_t>>& tokens) {
  const int64_t batch = static_cast<int64_t>(tokens.size());
  int64_t length = 1;
  std::vector<int32_t> counts;
  for (const auto& row : tokens) {
    counts.push_back(static_cast<int32_t>(row.size()));
    length = std::max<int64_t>(length, counts.back());
  }
  std::vector<int32_t> ids(static_cast<size_t>(batch * length), 0);
  for (size_t b = 0; b < tokens.size(); ++b) {
    std::copy(tokens[b].begin(), tokens[b].end(), ids.begin() + static_cast<ptrdiff_t>(b) * length);
  }
  const NoGrad no_grad;
  cache.begin_step(counts);
  ForwardContext context;
  context.cache = &cache;
  ModelInput input;
  input.input_ids = Tensor::from_vector(ids, {batch, length}, model.device());
  const Tensor hidden = model.hidden(input, context).value();
  cache.end_step();
  if (length == 1) return model.logits(hidden.select(1, 0));
  const Tensor last = Tensor::empty({batch, hidden.size(2)}, hidden.dtype(), hidden.device());
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t end = std::max<int64_t>(counts[static_cast<size_t>(b)], 1);
    last.select(0, b).copy_from(hidden.select(0, b).select(0, end - 1));
  }
  return model.logits(last);
}

}  // namespace ondol
