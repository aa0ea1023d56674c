#include "generate/decode_step.h"

#include <algorithm>
#include <utility>

#include "tensor/transfer.h"

namespace ondol {

Decoder::Decoder(Model& model, KvCache& cache, Finish finish)
    : model_(model),
      cache_(cache),
      finish_(std::move(finish)),
      ids_(Tensor::zeros({cache.sizes().batch, 1}, DType::i32, model.device())),
      graph_(model.device()) {}

Tensor Decoder::step(const std::vector<std::span<const int32_t>>& tokens) {
  const int64_t batch = static_cast<int64_t>(tokens.size());
  int64_t length = 1;
  std::vector<int32_t> counts;
  for (const auto& row : tokens) {
    counts.push_back(static_cast<int32_t>(row.size()));
    length = std::max<int64_t>(length, counts.back());
  }
  std::vector<int32_t> padded(static_cast<size_t>(batch * length), 0);
  for (size_t b = 0; b < tokens.size(); ++b) {
    std::copy(tokens[b].begin(), tokens[b].end(), padded.begin() + static_cast<ptrdiff_t>(b) * length);
  }
  cache_.begin_step(counts);
  const Tensor ids = length == 1 ? ids_ : Tensor::empty({batch, length}, DType::i32, model_.device());
  upload(ids, Tensor::from_vector(padded, {batch, length}));
  const auto body = [&] {
    const NoGrad no_grad;
    logits_ = {};
    ForwardContext context;
    context.cache = &cache_;
    ModelInput input;
    input.input_ids = ids;
    logits_ = last_logits(model_.hidden(input, context).value(), counts);
    if (finish_) finish_(logits_);
  };
  if (length == 1) {
    graph_.run(std::to_string(cache_.reach()), body);
  } else {
    body();
  }
  cache_.end_step();
  return logits_;
}

Tensor Decoder::last_logits(const Tensor& hidden, const std::vector<int32_t>& counts) const {
  if (hidden.size(1) == 1) return model_.logits(hidden.select(1, 0));
  const int64_t batch = hidden.size(0);
  const Tensor last = Tensor::empty({batch, hidden.size(2)}, hidden.dtype(), hidden.device());
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t end = std::max<int64_t>(counts[static_cast<size_t>(b)], 1);
    last.select(0, b).copy_from(hidden.select(0, b).select(0, end - 1));
  }
  return model_.logits(last);
}

}  // namespace ondol
