// Labels of texts and of tokens.
#include <algorithm>
#include <cmath>

#include "predict/text_batches.h"

namespace ondol {

namespace {

std::vector<double> softmax(const float* scores, int64_t count) {
  const float largest = *std::max_element(scores, scores + count);
  std::vector<double> probabilities;
  double sum = 0.0;
  for (int64_t i = 0; i < count; ++i) {
    probabilities.push_back(std::exp(static_cast<double>(scores[i]) - largest));
    sum += probabilities.back();
  }
  for (double& p : probabilities) p /= sum;
  return probabilities;
}

std::vector<double> probabilities_of(const ModelInfo& info, const float* scores) {
  const auto count = static_cast<int64_t>(info.labels.size());
  if (!info.regression && !info.multi_label) return softmax(scores, count);
  std::vector<double> values(scores, scores + count);
  if (info.multi_label) {
    for (double& value : values) value = 1.0 / (1.0 + std::exp(-value));
  }
  return values;
}

}  // namespace

std::vector<std::vector<LabelScore>> classify(Model& model, const Tokenizer& tokenizer,
                                              std::span<const TextInput> texts, const PredictOptions& options) {
  require_head(model, Head::sequence_classification, "classify");
  const ModelInfo& info = model.info();
  const size_t count = info.labels.size();
  const std::vector<Encoding> encodings = encode_texts(model, tokenizer, texts, options);
  std::vector<std::vector<LabelScore>> results(texts.size());
  for_each_batch(model, encodings, options, [&](const TextBatch& batch) {
    const NoGrad no_grad;
    const Tensor logits = host_output(model.forward(batch.input, {}), "logits");
    for (size_t b = 0; b < batch.texts.size(); ++b) {
      const std::vector<double> scores = probabilities_of(info, logits.data<float>() + b * count);
      std::vector<LabelScore>& result = results[batch.texts[b]];
      for (size_t i = 0; i < count; ++i) result.push_back({info.labels[i], scores[i]});
      if (info.regression) continue;  // values, in the labels' order
      std::stable_sort(result.begin(), result.end(),
                       [](const LabelScore& x, const LabelScore& y) { return x.score > y.score; });
    }
  });
  return results;
}

std::vector<std::vector<TokenLabel>> classify_tokens(Model& model, const Tokenizer& tokenizer,
                                                     std::span<const TextInput> texts, const PredictOptions& options) {
  require_head(model, Head::token_classification, "token-classify");
  const ModelInfo& info = model.info();
  const auto count = static_cast<int64_t>(info.labels.size());
  const std::vector<Encoding> encodings = encode_texts(model, tokenizer, texts, options, {.detailed = true});
  std::vector<std::vector<TokenLabel>> results(texts.size());
  for_each_batch(model, encodings, options, [&](const TextBatch& batch) {
    const NoGrad no_grad;
    const Tensor logits = host_output(model.forward(batch.input, {}), "logits");
    for (size_t b = 0; b < batch.texts.size(); ++b) {
      const Encoding& encoding = encodings[batch.texts[b]];
      for (size_t t = 0; t < encoding.ids.size(); ++t) {
        if (encoding.sequence_ids[t] < 0) continue;
        const std::vector<double> scores =
            softmax(logits.data<float>() + (batch.starts[b] + static_cast<int64_t>(t)) * count, count);
        const auto best = std::max_element(scores.begin(), scores.end());
        results[batch.texts[b]].push_back({tokenizer.id_to_token(encoding.ids[t]),
                                           {info.labels[static_cast<size_t>(best - scores.begin())], *best},
                                           encoding.offsets[t],
                                           encoding.sequence_ids[t] == 1});
      }
    }
  });
  return results;
}

}  // namespace ondol
