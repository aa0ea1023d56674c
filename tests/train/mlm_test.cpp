// Masked language modelling: what is chosen, what becomes of it, and that only the sample decides.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include <ondol/train/objective.h>

#include "support/temporary_directory.h"

namespace ondol {
namespace {

constexpr int32_t kVocabulary = 1000, kMask = 4;

std::unique_ptr<Model> masked_model() {
  const testing::TemporaryDirectory directory;
  return create_model(directory.write("config.json", R"({"model_type": "bert", "architectures": ["BertForMaskedLM"],
    "vocab_size": 1000, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 512})"),
                      DType::f32, {}, 1);
}

/// Ids below 10 are special, odd ids go on with a word.
Vocabulary vocabulary() {
  Vocabulary out;
  out.mask_id = kMask;
  for (int32_t id = 0; id < kVocabulary; ++id) {
    out.special.push_back(id < 10);
    out.continues_word.push_back(id >= 10 && id % 2 == 1);
    if (id >= 10) out.regular.push_back(id);
  }
  return out;
}

/// [CLS] text [SEP]; words of one to three tokens.
Batch samples(int64_t rows, int64_t length, int64_t first_sample = 0) {
  std::vector<int32_t> ids;
  uint32_t state = 7;
  for (int64_t i = 0; i < rows * length; ++i) {
    state = state * 1664525u + 1013904223u;
    const auto id = static_cast<int32_t>(10 + (state >> 8) % 990);
    ids.push_back(i % length == 0 ? 2 : i % length == length - 1 ? 3 : id);
  }
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {rows, length});
  batch.labels = batch.input_ids;  // next tokens, of no use here
  batch.first_sample = first_sample;
  return batch;
}

struct Masked {
  std::vector<int32_t> before, after, labels;
};

Masked run(const std::string& settings, const Model& model, const Vocabulary& words, const Batch& batch,
           uint64_t seed = 11, int64_t step = 1) {
  const auto objective = make_objective(settings);
  const Batch out = objective->prepare(batch, {.model = model, .vocabulary = &words, .seed = seed, .step = step});
  return {batch.input_ids.to_vector<int32_t>(), out.input_ids.to_vector<int32_t>(), out.labels.to_vector<int32_t>()};
}

TEST(MaskedLanguageModelling, MasksEightyTenTen) {
  const auto model = masked_model();
  const Vocabulary words = vocabulary();
  const int64_t rows = 200, length = 402;  // 400 tokens of text, 60 of them chosen
  const Masked m = run(R"({"type": "mlm"})", *model, words, samples(rows, length));
  int64_t masked = 0, random = 0, kept = 0;
  std::set<int32_t> replacements;
  for (int64_t row = 0; row < rows; ++row) {
    int64_t chosen = 0;
    for (int64_t i = row * length; i < (row + 1) * length; ++i) {
      const auto at = static_cast<size_t>(i);
      if (m.labels[at] == kIgnoreIndex) {
        EXPECT_EQ(m.after[at], m.before[at]);
        continue;
      }
      ++chosen;
      EXPECT_EQ(m.labels[at], m.before[at]);
      EXPECT_GE(m.before[at], 10) << "a special token was chosen";
      if (m.after[at] == kMask) {
        ++masked;
      } else if (m.after[at] == m.before[at]) {
        ++kept;
      } else {
        ++random;
        replacements.insert(m.after[at]);
      }
    }
    EXPECT_EQ(chosen, 60) << "15 % of 400";
  }
  const double all = 60.0 * rows;  // standard deviations of the shares: 0.4 %, 0.3 %, 0.3 %
  EXPECT_NEAR(static_cast<double>(masked) / all, 0.8, 0.015);
  EXPECT_NEAR(static_cast<double>(random) / all, 0.1, 0.011);
  EXPECT_NEAR(static_cast<double>(kept) / all, 0.1, 0.011);
  EXPECT_GE(*replacements.begin(), 10) << "no special token replaces another";
  EXPECT_GT(replacements.size(), 500u);
}

TEST(MaskedLanguageModelling, EveryPlaceIsChosenEquallyOften) {
  const auto model = masked_model();
  const Vocabulary words = vocabulary();
  const int64_t rows = 4000, length = 42;
  const Masked m = run(R"({"type": "mlm"})", *model, words, samples(rows, length));
  for (int64_t place = 1; place + 1 < length; ++place) {
    int64_t count = 0;
    for (int64_t row = 0; row < rows; ++row)
      count += m.labels[static_cast<size_t>(row * length + place)] != kIgnoreIndex;
    EXPECT_NEAR(static_cast<double>(count) / static_cast<double>(rows), 0.15, 0.03) << place;  // five deviations
  }
}

TEST(MaskedLanguageModelling, DependsOnSeedAndSampleAlone) {
  const auto model = masked_model();
  const Vocabulary words = vocabulary();
  const std::string settings = R"({"type": "mlm", "masking": "span"})";
  const Batch all = samples(6, 100, 40);
  const Masked together = run(settings, *model, words, all);
  Batch part = all.rows(2, 3);
  part.first_sample = 42;
  const Masked alone = run(settings, *model, words, part, 11, 99);
  EXPECT_EQ(alone.after, std::vector<int32_t>(together.after.begin() + 200, together.after.begin() + 500));
  EXPECT_EQ(alone.labels, std::vector<int32_t>(together.labels.begin() + 200, together.labels.begin() + 500));
  part.first_sample = 43;  // the same text in the next epoch
  EXPECT_NE(run(settings, *model, words, part).labels, alone.labels);
  part.first_sample = 42;
  EXPECT_NE(run(settings, *model, words, part, 12).labels, alone.labels);
}

TEST(MaskedLanguageModelling, WholeWords) {
  const auto model = masked_model();
  const Vocabulary words = vocabulary();
  const int64_t rows = 50, length = 200;
  const Masked m = run(R"({"type": "mlm", "masking": "whole_word"})", *model, words, samples(rows, length));
  int64_t several = 0;
  for (size_t i = 1; i < m.before.size(); ++i) {
    if (!words.goes_on(m.before[i]) || m.before[i - 1] < 10) continue;
    EXPECT_EQ(m.labels[i] == kIgnoreIndex, m.labels[i - 1] == kIgnoreIndex) << "half of a word at " << i;
    several += m.labels[i] != kIgnoreIndex;
  }
  EXPECT_GT(several, 100);
  for (int64_t row = 0; row < rows; ++row) {
    int64_t chosen = 0;
    for (int64_t i = 0; i < length; ++i) chosen += m.labels[static_cast<size_t>(row * length + i)] != kIgnoreIndex;
    EXPECT_LE(chosen, 30);
    EXPECT_GE(chosen, 28);
  }
}

/// Lengths of runs of chosen tokens where every token is a word.
std::map<int64_t, int64_t> run_lengths(const Masked& m) {
  std::map<int64_t, int64_t> counts;
  int64_t run = 0;
  for (size_t i = 0; i <= m.labels.size(); ++i) {
    if (i < m.labels.size() && m.labels[i] != kIgnoreIndex) {
      ++run;
    } else if (run > 0) {
      ++counts[run];
      run = 0;
    }
  }
  return counts;
}

TEST(MaskedLanguageModelling, SpansAreGeometric) {
  const auto model = masked_model();
  Vocabulary words = vocabulary();
  std::fill(words.continues_word.begin(), words.continues_word.end(), false);
  // Few spans in long rows, so that hardly any touch and few are cut short by the budget.
  const Masked m = run(R"({"type": "mlm", "masking": "span", "probability": 0.1})", *model, words, samples(600, 510));
  double spans = 0, tokens = 0;
  for (const auto& [length, count] : run_lengths(m)) {
    spans += static_cast<double>(count);
    tokens += static_cast<double>(length * count);
  }
  // Joshi et al. 2020: p = 0.2, lengths above 10 drawn again: a mean of 3.8. Neighbours that touch lengthen it a
  // little.
  EXPECT_NEAR(tokens / spans, 3.8, 0.45);
  // A span is masked, replaced or kept as a whole: few neighbours differ in that.
  int64_t mixed = 0, pairs = 0;
  for (size_t i = 1; i < m.labels.size(); ++i) {
    if (m.labels[i] == kIgnoreIndex || m.labels[i - 1] == kIgnoreIndex) continue;
    ++pairs;
    mixed += (m.after[i] == kMask) != (m.after[i - 1] == kMask);
  }
  EXPECT_LT(static_cast<double>(mixed), 0.06 * static_cast<double>(pairs));
}

TEST(MaskedLanguageModelling, PaddingAndDocumentsAreRespected) {
  const auto model = masked_model();
  const Vocabulary words = vocabulary();
  Batch batch = samples(20, 50);
  std::vector<uint8_t> mask(1000, 1);
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = i % 50 < 30;
  batch.attention_mask = Tensor::from_vector(mask, {20, 50});
  const Masked m = run(R"({"type": "mlm"})", *model, words, batch);
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] != 0) continue;
    EXPECT_EQ(m.labels[i], kIgnoreIndex) << i;
  }
}

TEST(MaskedLanguageModelling, StaticChoicesFollowFromTheTokens) {
  const auto model = masked_model();
  const Vocabulary words = vocabulary();
  const std::string settings = R"({"type": "mlm", "static": true})";
  const Masked first = run(settings, *model, words, samples(4, 100, 0));
  const Masked later = run(settings, *model, words, samples(4, 100, 4000));  // the same text in a later epoch
  EXPECT_EQ(later.after, first.after);
  EXPECT_EQ(later.labels, first.labels);
  EXPECT_NE(run(settings, *model, words, samples(4, 100, 0), 12).labels, first.labels) << "another seed";
  Batch changed = samples(1, 100);
  const Masked before = run(settings, *model, words, changed);
  changed.input_ids.data<int32_t>()[50] = changed.input_ids.data<int32_t>()[50] == 500 ? 501 : 500;
  EXPECT_NE(run(settings, *model, words, changed).labels, before.labels) << "another text";
}

TEST(MaskedLanguageModelling, PairsKeepTheirLabelAndTypes) {
  const testing::TemporaryDirectory directory;
  const auto model =
      create_model(directory.write("config.json", R"({"model_type": "bert", "architectures": ["BertForPreTraining"],
    "vocab_size": 1000, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 512})"),
                   DType::f32, {}, 1);
  const auto single = masked_model();
  const Vocabulary words = vocabulary();
  Batch pairs = samples(3, 40);
  pairs.labels = {};
  pairs.others.emplace_back("token_type_ids", Tensor::zeros({3, 40}, DType::i32));
  pairs.others.emplace_back("next_sentence_label", Tensor::from_vector(std::vector<int32_t>{0, 1, 1}, {3}));
  const auto objective = make_objective(R"({"type": "mlm", "pairs": "nsp"})");
  const ObjectiveContext context{.model = *model, .vocabulary = &words, .seed = 1};
  objective->check_samples(pairs, context);
  const Batch out = objective->prepare(pairs, context);
  EXPECT_EQ(objective->count_targets(out, *model), (std::vector<int64_t>{3 * 6, 3}));  // 15 % of 38, and the pairs
  const ModelInput input = model_input(out);
  EXPECT_EQ(input.next_sentence_label.to_vector<int32_t>(), (std::vector<int32_t>{0, 1, 1}));
  const auto terms = objective->losses(*model, out, mean_scales({18, 3}), {});
  ASSERT_EQ(terms.size(), 2u);
  EXPECT_NEAR(terms[0].value().item(), std::log(1000.0), 0.3);
  EXPECT_NEAR(terms[1].value().item(), std::log(2.0), 0.1);

  DataConfig data;
  objective->choose_data(data);
  EXPECT_EQ(data.pairs.task, SentencePairSettings::next_sentence);
  EXPECT_EQ(data.sentences, SentenceSplit::lines);
  try {
    objective->check_samples(pairs, {.model = *single, .vocabulary = &words});
    FAIL() << "a model without a head for pairs";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("objective.pairs"), std::string::npos) << error.what();
  }
}

TEST(MaskedLanguageModelling, RefusesWhatDoesNotFit) {
  const auto model = masked_model();
  Vocabulary words = vocabulary();
  const auto message = [&](const std::string& settings, const Vocabulary* vocabulary_or_null, const Batch& batch) {
    try {
      make_objective(settings)->check_samples(batch, {.model = *model, .vocabulary = vocabulary_or_null});
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(R"({"type": "mlm"})", &words, samples(1, 8)), "");
  EXPECT_NE(message(R"({"type": "mlm"})", nullptr, samples(1, 8)).find("mask token"), std::string::npos);
  EXPECT_NE(message(R"({"type": "mlm", "mask_token_id": 1000})", &words, samples(1, 8)).find("1000"),
            std::string::npos);
  EXPECT_EQ(message(R"({"type": "mlm", "mask_token_id": 4, "random_fraction": 0})", nullptr, samples(1, 8)), "");
  Batch finished = samples(1, 8);
  finished.labels_shifted = false;
  EXPECT_NE(message(R"({"type": "mlm"})", &words, finished).find("\"labels\""), std::string::npos);
  EXPECT_THROW(make_objective(R"({"type": "mlm", "probability": 0})"), UsageError);
  EXPECT_THROW(make_objective(R"({"type": "mlm", "random_fraction": 0.3})"), UsageError);
  EXPECT_THROW(make_objective(R"({"type": "mlm", "masking": "words"})"), UsageError);
}

}  // namespace
}  // namespace ondol
