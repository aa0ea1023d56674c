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
    (model_.info().head == Head::sequence_to_sequence ? input.decoder_input_ids : input.input_ids) = ids;
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

std::vector<int32_t> decoder_prompt(const Model& model, std::span<const int32_t> prompt) {
  const ModelInfo& info = model.info();
  if (info.head != Head::sequence_to_sequence) return {prompt.begin(), prompt.end()};
  const std::optional<int32_t> start = info.decoder_start_token_id ? info.decoder_start_token_id : info.bos_token_id;
  if (!start) throw UsageError("the model's configuration does not say with which token decoding begins");
  return {*start};
}

void encode_sources(Model& model, const std::vector<std::span<const int32_t>>& sources, KvCache& cache) {
  if (model.info().head != Head::sequence_to_sequence) return;
  size_t longest = 0;
  for (const auto& source : sources) longest = std::max(longest, source.size());
  const int32_t padding = model.info().pad_token_id.value_or(0);
  std::vector<int32_t> ids(sources.size() * longest, padding), lengths;
  for (size_t b = 0; b < sources.size(); ++b) {
    std::copy(sources[b].begin(), sources[b].end(), ids.begin() + static_cast<ptrdiff_t>(b * longest));
    lengths.push_back(static_cast<int32_t>(sources[b].size()));
  }
  const Shape shape{static_cast<int64_t>(sources.size()), static_cast<int64_t>(longest)};
  model.encode(Tensor::from_vector(ids, shape, model.device()), lengths, cache);
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
