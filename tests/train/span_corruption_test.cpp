// Span corruption: lengths as in T5's own arithmetic, and inputs and targets that together are the text.
#include <gtest/gtest.h>

#include <set>

#include <ondol/train/objective.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

constexpr int32_t kEos = 1, kFirstSentinel = 999;  // <extra_id_0>; they count down

std::unique_ptr<Model> encoder_decoder() {
  const testing::TemporaryDirectory directory;
  return create_model(directory.write("config.json", R"({"model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"], "vocab_size": 1000, "d_model": 16, "d_kv": 8, "d_ff": 32,
    "num_layers": 1, "num_heads": 2, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0})"),
                      DType::f32, {}, 1);
}

Vocabulary vocabulary(int32_t sentinels = 100) {
  Vocabulary out;
  out.eos_id = kEos;
  out.pad_id = 0;
  for (int32_t i = 0; i < sentinels; ++i) out.sentinels.push_back(kFirstSentinel - i);
  return out;
}

Batch samples(int64_t rows, int64_t length, int64_t first_sample = 0) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows * length; ++i) ids.push_back(static_cast<int32_t>(10 + i * 7 % 800));
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {rows, length});
  batch.labels = batch.input_ids;
  batch.first_sample = first_sample;
  return batch;
}

std::vector<int32_t> row_of(const Tensor& tensor, int64_t row) { return tensor.select(0, row).to_vector<int32_t>(); }

/// The text again, from what is left and what was cut out.
std::vector<int32_t> merge(const std::vector<int32_t>& inputs, const std::vector<int32_t>& targets) {
  std::vector<int32_t> text;
  size_t target = 0;
  for (const int32_t id : inputs) {
    if (id == kEos) break;
    if (id <= kFirstSentinel - 100) {
      text.push_back(id);
      continue;
    }
    EXPECT_EQ(targets[target], id) << "sentinels in the same order";
    for (++target; targets[target] != kEos && targets[target] <= kFirstSentinel - 100; ++target) {
      text.push_back(targets[target]);
    }
  }
  EXPECT_EQ(targets[target], kEos);
  return text;
}

// Raffel et al. 2020, section 3.1.4: for inputs of 512 tokens, the published code (t5/data, random_spans_helper) reads
// 568 tokens and gives targets of 114.
TEST(SpanCorruption, InputsFillTheSequence) {
  const auto objective = make_objective(R"({"type": "span_corruption"})");
  EXPECT_EQ(objective->tokens_per_sample(512), 568);
  const auto model = encoder_decoder();
  const Vocabulary words = vocabulary();
  const Batch text = samples(4, 568);
  const Batch out = objective->prepare(text, {.model = *model, .vocabulary = &words, .seed = 3, .step = 1});
  EXPECT_EQ(out.input_ids.shape(), (Shape{4, 512}));
  EXPECT_EQ(out.labels.shape(), (Shape{4, 114}));
  EXPECT_FALSE(out.attention_mask.defined());
  for (int64_t row = 0; row < 4; ++row) {
    const std::vector<int32_t> inputs = row_of(out.input_ids, row), targets = row_of(out.labels, row);
    EXPECT_EQ(inputs.back(), kEos);
    EXPECT_EQ(merge(inputs, targets), row_of(text.input_ids, row));
    int32_t next = kFirstSentinel;
    for (const int32_t id : inputs) {
      if (id <= kFirstSentinel - 100) continue;
      EXPECT_EQ(id, next--) << "sentinels count down";
    }
    EXPECT_EQ(kFirstSentinel - next, 28) << "85 tokens in spans of 3";
  }
  EXPECT_NE(row_of(out.input_ids, 0), row_of(out.input_ids, 1));
}

TEST(SpanCorruption, EveryLengthAndDensity) {
  const auto model = encoder_decoder();
  const Vocabulary words = vocabulary();
  for (const char* settings : {R"({"type": "span_corruption"})", R"({"type": "span_corruption", "noise_density": 0.5})",
                               R"({"type": "span_corruption", "noise_density": 0.9, "mean_span_length": 12})"}) {
    const auto objective = make_objective(settings);
    for (int64_t length = 1; length < 60; ++length) {
      const Batch text = samples(2, length);
      const Batch out = objective->prepare(text, {.model = *model, .vocabulary = &words, .seed = 3, .step = 1});
      for (int64_t row = 0; row < 2; ++row) {
        EXPECT_EQ(merge(row_of(out.input_ids, row), row_of(out.labels, row)), row_of(text.input_ids, row));
      }
      if (length < 4) continue;
      const int64_t read = objective->tokens_per_sample(length);
      const Batch full = objective->prepare(samples(1, read), {.model = *model, .vocabulary = &words});
      EXPECT_LE(full.input_ids.size(1), length) << settings;
      EXPECT_GE(full.input_ids.size(1), length - 1) << settings;
    }
  }
}

TEST(SpanCorruption, ShortTextsArePadded) {
  const auto model = encoder_decoder();
  const Vocabulary words = vocabulary();
  const auto objective = make_objective(R"({"type": "span_corruption"})");
  Batch text = samples(2, 40);
  std::vector<uint8_t> mask(80, 1);
  std::fill(mask.begin() + 60, mask.end(), uint8_t{0});  // the second has 20 tokens, the last one the end token
  text.attention_mask = Tensor::from_vector(mask, {2, 40});
  std::vector<int32_t> ids = text.input_ids.to_vector<int32_t>();
  ids[59] = kEos;
  text.input_ids = Tensor::from_vector(ids, {2, 40});
  const Batch out = objective->prepare(text, {.model = *model, .vocabulary = &words, .seed = 3, .step = 1});
  EXPECT_EQ(out.input_ids.size(1), 40 - 6 + 2 + 1);
  const std::vector<int32_t> inputs = row_of(out.input_ids, 1), targets = row_of(out.labels, 1);
  EXPECT_EQ(merge(inputs, targets), std::vector<int32_t>(ids.begin() + 40, ids.begin() + 59));
  const std::vector<uint8_t> visible = out.attention_mask.select(0, 1).to_vector<uint8_t>();
  for (size_t i = 0; i < inputs.size(); ++i) EXPECT_EQ(visible[i], i < 19 - 3 + 1 + 1 ? 1 : 0) << i;
  EXPECT_EQ(targets.back(), kIgnoreIndex);
}

TEST(SpanCorruption, DependsOnSeedAndSampleAlone) {
  const auto model = encoder_decoder();
  const Vocabulary words = vocabulary();
  const auto objective = make_objective(R"({"type": "span_corruption"})");
  const Batch all = samples(6, 100, 40);
  const Batch together = objective->prepare(all, {.model = *model, .vocabulary = &words, .seed = 3, .step = 1});
  Batch part = all.rows(2, 1);
  part.first_sample = 42;
  const auto inputs_of = [&](uint64_t seed, int64_t step) {
    return row_of(
        objective->prepare(part, {.model = *model, .vocabulary = &words, .seed = seed, .step = step}).input_ids, 0);
  };
  EXPECT_EQ(inputs_of(3, 9), row_of(together.input_ids, 2));
  EXPECT_NE(inputs_of(4, 1), row_of(together.input_ids, 2));
  part.first_sample = 43;
  EXPECT_NE(inputs_of(3, 1), row_of(together.input_ids, 2));
}

TEST(SpanCorruption, RefusesWhatDoesNotFit) {
  const auto model = encoder_decoder();
  const Vocabulary words = vocabulary(), few = vocabulary(3);
  const auto message = [&](const Vocabulary* known, const Batch& batch) {
    try {
      make_objective(R"({"type": "span_corruption"})")->check_samples(batch, {.model = *model, .vocabulary = known});
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(&words, samples(1, 100)), "");
  EXPECT_NE(message(nullptr, samples(1, 100)).find("sentinels"), std::string::npos);
  EXPECT_NE(message(&few, samples(1, 100)).find("3 sentinels"), std::string::npos);
  Batch packed = samples(1, 100);
  packed.document_ids = Tensor::zeros({1, 100}, DType::i32);
  EXPECT_NE(message(&words, packed).find("document_mask"), std::string::npos);
  Batch finished = samples(1, 100);
  finished.labels_shifted = false;
  EXPECT_NE(message(&words, finished).find("\"labels\""), std::string::npos);
  EXPECT_THROW(make_objective(R"({"type": "span_corruption", "noise_density": 1.0})"), UsageError);
}

}  // namespace
}  // namespace ondol
