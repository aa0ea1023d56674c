// What tests of objectives that change tokens have in common: models, a vocabulary, samples, bounds.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include <ondol/train/objective.h>

#include "support/temporary_directory.h"

namespace ondol::testing {

/// Ids from 20 on are text; sentinels count down from the end.
inline constexpr int32_t kPad = 0, kEnd = 1, kBegin = 2, kMask = 4, kFirstText = 20, kVocabulary = 6000;
inline constexpr int32_t kFirstSentinel = kVocabulary - 1, kSentinels = 300;

inline std::unique_ptr<Model> model_of(const std::string& config) {
  const TemporaryDirectory directory;
  return create_model(directory.write("config.json", config), DType::f32, {}, 1);
}

inline std::unique_ptr<Model> encoder_decoder() {
  return model_of(concat(R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": )",
                         kVocabulary, R"(, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2,
                         "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0})"));
}

inline std::unique_ptr<Model> decoder() {
  return model_of(concat(R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": )", kVocabulary,
                         R"(, "n_positions": 8192, "n_embd": 16, "n_layer": 1, "n_head": 2})"));
}

inline std::unique_ptr<Model> encoder() {
  return model_of(concat(R"({"model_type": "bert", "architectures": ["BertForPreTraining"], "vocab_size": )",
                         kVocabulary, R"(, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                         "intermediate_size": 32, "max_position_embeddings": 512})"));
}

/// Every tenth id ends a sentence; odd ids go on with a word.
inline Vocabulary corruption_vocabulary() {
  Vocabulary out;
  out.mask_id = kMask;
  out.eos_id = kEnd;
  out.pad_id = kPad;
  for (int32_t id = 0; id < kVocabulary; ++id) {
    const bool text = id >= kFirstText && id <= kFirstSentinel - kSentinels;
    out.special.push_back(!text);
    out.continues_word.push_back(text && id % 2 == 1);
    out.ends_sentence.push_back(text && id % 10 == 9);
    if (text) out.regular.push_back(id);
  }
  for (int32_t i = 0; i < kSentinels; ++i) out.sentinels.push_back(kFirstSentinel - i);
  return out;
}

/// Each token of a row is one more than the one before.
inline Batch counting_samples(int64_t rows, int64_t length, int64_t first_sample = 0) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows * length; ++i) ids.push_back(static_cast<int32_t>(kFirstText + i % length));
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {rows, length});
  batch.labels = batch.input_ids;  // next tokens, of no use here
  batch.first_sample = first_sample;
  return batch;
}

inline std::vector<int32_t> row_of(const Tensor& tensor, int64_t row) {
  return tensor.select(0, row).to_vector<int32_t>();
}

/// Without what is `filler` behind it.
inline std::vector<int32_t> row_without(const Tensor& tensor, int64_t row, int32_t filler) {
  std::vector<int32_t> ids = row_of(tensor, row);
  while (!ids.empty() && ids.back() == filler) ids.pop_back();
  return ids;
}

/// The text again, from what is left of it and what was cut out.
inline std::vector<int32_t> merge_spans(const std::vector<int32_t>& inputs, const std::vector<int32_t>& targets) {
  const auto is_sentinel = [](int32_t id) { return id > kFirstSentinel - kSentinels; };
  std::vector<int32_t> text;
  size_t target = 0;
  for (const int32_t id : inputs) {
    if (id == kEnd) break;
    if (!is_sentinel(id)) {
      text.push_back(id);
      continue;
    }
    if (targets[target] != id) return {};
    for (++target; targets[target] != kEnd && !is_sentinel(targets[target]); ++target) text.push_back(targets[target]);
  }
  return targets[target] == kEnd ? text : std::vector<int32_t>();
}

/// 4.5 standard deviations of the share of n independent draws of probability p: exceeded by chance in 7 of a million.
inline double share_bound(double p, double n) { return 4.5 * std::sqrt(p * (1.0 - p) / n); }

/// The message of check_samples, "" when the samples fit.
inline std::string refusal(const std::string& settings, const Model& model, const Vocabulary* vocabulary,
                           const Batch& batch, const Tokenizer* tokenizer = nullptr) {
  try {
    make_objective(settings)->check_samples(batch, {.model = model, .vocabulary = vocabulary, .tokenizer = tokenizer});
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace ondol::testing
