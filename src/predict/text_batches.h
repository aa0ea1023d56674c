// Texts as batches of a model.
//
//   const std::vector<Encoding> encodings = encode_texts(model, tokenizer, texts, options);
//   for_each_batch(model, encodings, options, [&](const TextBatch& batch) {
//     const Tensor h = model.hidden(batch.input, {}).value();
//     ... rows batch.starts[i] ... + batch.lengths[i] of h (B, T, C) as (B T, C) belong to text batch.texts[i]
//   });
#pragma once

#include <functional>

#include <ondol/predict/predict.h>

namespace ondol {

struct EncodeTextsOptions {
  bool detailed = false;  // with offsets, words and sequences
  TruncationStrategy strategy = TruncationStrategy::longest_first;
};

/// Throws Error for a text without tokens, and for one that is too long and may not be cut.
std::vector<Encoding> encode_texts(const Model& model, const Tokenizer& tokenizer, std::span<const TextInput> texts,
                                   const PredictOptions& options, const EncodeTextsOptions& how = {});

struct TextBatch {
  ModelInput input;  // prepared, on the model's device
  std::vector<size_t> texts;
  std::vector<int64_t> starts, lengths;
};

/// The longest texts first. Without padding when the model runs such batches, else each text is a row.
void for_each_batch(const Model& model, std::span<const Encoding> encodings, const PredictOptions& options,
                    const std::function<void(const TextBatch&)>& run);

/// One output of a model, f32, on the host. Throws Error when there is none of that name.
Tensor host_output(const NamedOutputs& outputs, const std::string& name);

/// Throws UsageError unless the model has the head that a task needs.
void require_head(const Model& model, Head head, const char* task);

}  // namespace ondol
