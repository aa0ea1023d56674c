// The mixture of denoisers: shares, lengths as T5's arithmetic has them, and inputs and targets that are the text.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "train/corruption.h"

namespace ondol {
namespace {

using namespace testing;

/// The published arithmetic (Raffel et al. 2020, random_spans_helper of the code), written down once more.
struct Lengths {
  int64_t tokens = 0, inputs = 0, targets = 0, spans = 0;
};
Lengths published_lengths(int64_t wanted, double density, double mean) {
  const auto of = [&](int64_t tokens) {
    const auto noise = static_cast<int64_t>(std::nearbyint(static_cast<double>(tokens) * density));
    const auto spans = static_cast<int64_t>(std::nearbyint(static_cast<double>(noise) / mean));
    return Lengths{tokens, tokens - noise + spans + 1, noise + spans + 1, spans};
  };
  int64_t tokens = wanted - 1;
  while (of(tokens + 1).inputs <= wanted) ++tokens;
  if (density == 0.5 && of(tokens).targets > of(tokens).inputs) --tokens;
  return of(tokens);
}

struct Pair {
  double mean, density;
};
constexpr Pair kPairs[] = {{3, 0.15}, {8, 0.15}, {3, 0.5}, {8, 0.5}, {64, 0.15}, {64, 0.5}};

TEST(Ul2, EveryPairHasThePublishedLengths) {
  const auto model = encoder_decoder();
  const Vocabulary words = corruption_vocabulary();
  EXPECT_EQ(published_lengths(512, 0.15, 3).tokens, 568);
  EXPECT_EQ(published_lengths(512, 0.15, 3).targets, 114);
  for (const Pair& pair : kPairs) {
    const auto objective = make_objective(concat(R"({"type": "span_corruption", "noise_density": )", pair.density,
                                                 R"(, "mean_span_length": )", pair.mean, "}"));
    const Lengths expected = published_lengths(512, pair.density, pair.mean);
    EXPECT_EQ(objective->tokens_per_sample(512), expected.tokens) << pair.mean << " " << pair.density;
    const Batch out = objective->prepare(counting_samples(2, expected.tokens), {.model = *model, .vocabulary = &words});
    EXPECT_EQ(out.input_ids.size(1), 512);
    EXPECT_EQ(expected.inputs, 512);
    EXPECT_EQ(out.labels.size(1), expected.targets);
  }
}

TEST(Ul2, MixesThePapersDenoisersEvenly) {
  const auto model = encoder_decoder();
  const Vocabulary words = corruption_vocabulary();
  const auto objective = make_objective(R"({"type": "ul2"})");
  const int64_t length = 256, read = objective->tokens_per_sample(length), rows = 4000;  // 1.4 million tokens
  std::map<std::pair<int64_t, int64_t>, int64_t> expected;  // spans, length of the targets
  for (const Pair& pair : kPairs) {
    const Lengths lengths = published_lengths(length, pair.density, pair.mean);
    expected[{lengths.spans, lengths.targets}] = 0;
  }
  const int64_t tail = 339;  // S: of 339 tokens a quarter (85) is cut out: 254 + sentinel + end; 85 + 2
  expected[{1, 85 + 2}] = 0;
  ASSERT_EQ(expected.size(), 7u);
  const Batch text = counting_samples(rows, read);
  const Batch out = objective->prepare(text, {.model = *model, .vocabulary = &words, .seed = 3});
  ASSERT_EQ(out.input_ids.shape(), (Shape{rows, length}));
  EXPECT_FALSE(out.attention_mask.defined()) << "all inputs have the exact length";
  std::map<int32_t, int64_t> window_begins;
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<int32_t> inputs = row_of(out.input_ids, row);
    const std::vector<int32_t> targets = row_without(out.labels, row, kIgnoreIndex);
    const int64_t spans =
        std::count_if(inputs.begin(), inputs.end(), [](int32_t id) { return id > kFirstSentinel - kSentinels; });
    const auto kind = expected.find({spans, static_cast<int64_t>(targets.size())});
    ASSERT_NE(kind, expected.end()) << targets.size();
    ++kind->second;
    const std::vector<int32_t> merged = merge_spans(inputs, targets);
    ASSERT_GE(merged.size(), 250u);
    for (size_t i = 1; i < merged.size(); ++i) ASSERT_EQ(merged[i], merged[i - 1] + 1) << "a piece of the text, whole";
    if (kind->first.second == 87) {
      EXPECT_EQ(merged.size(), static_cast<size_t>(tail));
      EXPECT_EQ(inputs[254], kFirstSentinel);
      ++window_begins[merged[0]];
    }
  }
  for (const auto& [kind, count] : expected) {
    EXPECT_NEAR(static_cast<double>(count) / rows, 1.0 / 7.0, share_bound(1.0 / 7.0, rows)) << kind.first << " spans";
  }
  EXPECT_GT(window_begins.size(), 20u) << "every part of the text has its turn";
}

TEST(Ul2, WeightsAndModeTokens) {
  const auto model = encoder_decoder();
  WordPieceParts parts;
  for (int32_t id = 0; id < kVocabulary; ++id) parts.tokens.push_back(concat("t", id));
  parts.tokens[0] = "[UNK]";
  parts.tokens[10] = "[NLU]";
  parts.tokens[11] = "[S2S]";
  parts.tokens[12] = "[NLG]";
  const Tokenizer tokenizer = make_wordpiece_tokenizer(parts, "test");
  const Vocabulary words = corruption_vocabulary();
  const std::string denoisers = R"([{"mode": "R", "noise_density": 0.15, "mean_span_length": 3, "weight": 3},
                                    {"mode": "S", "noise_density": 0.25}])";
  const std::string settings =
      concat(R"({"type": "ul2", "mode_tokens": ["[NLU]", "[S2S]", "[NLG]"], "denoisers": )", denoisers, "}");
  const auto objective = make_objective(settings);
  EXPECT_EQ(make_objective(objective->settings())->settings(), objective->settings());
  const int64_t rows = 3000;
  const Batch text = counting_samples(rows, objective->tokens_per_sample(128));
  const Batch out = objective->prepare(text, {.model = *model, .vocabulary = &words, .tokenizer = &tokenizer});
  EXPECT_EQ(out.input_ids.size(1), 128);
  int64_t regular = 0;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int32_t> inputs = row_of(out.input_ids, row);
    ASSERT_TRUE(inputs[0] == 10 || inputs[0] == 11);
    regular += inputs[0] == 10;
    const bool one_span =
        std::count_if(inputs.begin(), inputs.end(), [](int32_t id) { return id > kFirstSentinel - kSentinels; }) == 1;
    EXPECT_EQ(one_span, inputs[0] == 11);
  }
  EXPECT_NEAR(static_cast<double>(regular) / rows, 0.75, share_bound(0.75, rows));
  EXPECT_EQ(refusal(settings, *model, &words, text, &tokenizer), "");
  const std::string unknown = R"({"type": "ul2", "mode_tokens": ["[NLU]", "[S2S]", "[XXX]"]})";
  EXPECT_NE(refusal(unknown, *model, &words, text, &tokenizer).find("no token \"[XXX]\" (objective.mode_tokens)"),
            std::string::npos);
}

TEST(Ul2, DependsOnSeedAndSampleAlone) {
  const auto model = encoder_decoder();
  const Vocabulary words = corruption_vocabulary();
  const auto objective = make_objective(R"({"type": "ul2"})");
  const auto inputs_of = [&](int64_t rows, int64_t first, int64_t row, uint64_t seed) {
    const Batch text = counting_samples(rows, objective->tokens_per_sample(128), first);
    return row_of(objective->prepare(text, {.model = *model, .vocabulary = &words, .seed = seed}).input_ids, row);
  };
  const std::vector<int32_t> sample = inputs_of(1, 42, 0, 3);
  EXPECT_EQ(inputs_of(6, 40, 2, 3), sample);
  EXPECT_NE(inputs_of(1, 43, 0, 3), sample);
  EXPECT_NE(inputs_of(1, 42, 0, 4), sample);
}

TEST(Ul2, RefusesWhatDoesNotFit) {
  const auto model = encoder_decoder(), gpt = decoder();
  Vocabulary words = corruption_vocabulary();
  const auto objective = make_objective(R"({"type": "ul2"})");
  const Batch text = counting_samples(1, objective->tokens_per_sample(512));
  EXPECT_EQ(refusal(R"({"type": "ul2"})", *model, &words, text), "");
  EXPECT_NE(refusal(R"({"type": "ul2"})", *gpt, &words, text).find("not a gpt2 model"), std::string::npos);
  words.sentinels.resize(100);  // T5's; half of 766 tokens in spans of 3 are 128
  EXPECT_NE(refusal(R"({"type": "ul2"})", *model, &words, text).find("128 spans, the tokenizer has 100 sentinels"),
            std::string::npos);
  EXPECT_THROW(make_objective(R"({"type": "ul2", "mode_tokens": ["[NLU]"]})"), UsageError);
  EXPECT_THROW(make_objective(R"({"type": "ul2", "denoisers": [{"mode": "R", "noise_density": 0.2}]})"), UsageError);
  EXPECT_THROW(
      make_objective(R"({"type": "ul2", "denoisers": [{"mode": "S", "noise_density": 0.2, "mean_span_length": 3}]})"),
      UsageError);
}

}  // namespace
}  // namespace ondol
