// The tokens that a masked language model expects where a text has its mask token.
#include <algorithm>
#include <numeric>

#include <ondol/ops/reduce.h>

#include "predict/text_batches.h"

namespace ondol {

namespace {

int32_t mask_id(const Tokenizer& tokenizer) {
  if (const auto id = tokenizer.special_token_id("mask")) return *id;
  for (const char* token : {"[MASK]", "<mask>"}) {
    if (const auto id = tokenizer.token_to_id(token)) return *id;
  }
  throw UsageError("fill-mask needs a tokenizer with a mask token");
}

/// Places of the `count` largest values, the largest first, of equals the first.
std::vector<int32_t> largest(const float* values, int64_t size, int64_t count) {
  std::vector<int32_t> places(static_cast<size_t>(size));
  std::iota(places.begin(), places.end(), 0);
  count = std::min(count, size);
  std::partial_sort(places.begin(), places.begin() + count, places.end(),
                    [&](int32_t a, int32_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  places.resize(static_cast<size_t>(count));
  return places;
}

}  // namespace

std::vector<std::vector<MaskFill>> fill_masks(Model& model, const Tokenizer& tokenizer,
                                              std::span<const TextInput> texts, int64_t count,
                                              const PredictOptions& options) {
  require_head(model, Head::masked_language_model, "fill-mask");
  ONDOL_CHECK(count >= 1, "the number of tokens for a mask must be at least 1, got ", count);
  const int32_t mask = mask_id(tokenizer);
  const std::vector<Encoding> encodings = encode_texts(model, tokenizer, texts, options);
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<int32_t>& ids = encodings[i].ids;
    if (std::find(ids.begin(), ids.end(), mask) != ids.end()) continue;
    throw Error(concat("a text has no ", tokenizer.id_to_token(mask), " to fill",
                       texts[i].place.empty() ? "" : concat(" (", texts[i].place, ")")));
  }
  const int64_t vocabulary = std::min(model.info().vocab_size, tokenizer.vocab_size());
  std::vector<std::vector<MaskFill>> results(texts.size());
  for_each_batch(model, encodings, options, [&](const TextBatch& batch) {
    struct Place {
      size_t text;
      int64_t position;
    };
    std::vector<Place> places;
    std::vector<int32_t> rows;
    for (size_t b = 0; b < batch.texts.size(); ++b) {
      const std::vector<int32_t>& ids = encodings[batch.texts[b]].ids;
      for (size_t t = 0; t < ids.size(); ++t) {
        if (ids[t] != mask) continue;
        places.push_back({batch.texts[b], static_cast<int64_t>(t)});
        rows.push_back(static_cast<int32_t>(batch.starts[b] + static_cast<int64_t>(t)));
      }
    }
    const NoGrad no_grad;
    ForwardContext context;
    context.logit_rows = Tensor::from_vector(rows, {static_cast<int64_t>(rows.size())}, model.device());
    const Tensor probabilities = ops::softmax(host_output(model.forward(batch.input, context), "logits"));
    for (size_t i = 0; i < places.size(); ++i) {
      const float* scores = probabilities.data<float>() + static_cast<int64_t>(i) * probabilities.size(-1);
      for (const int32_t id : largest(scores, vocabulary, count)) {
        results[places[i].text].push_back({places[i].position, tokenizer.decode({{id}}), id, scores[id]});
      }
    }
  });
  return results;
}

}  // namespace ondol
