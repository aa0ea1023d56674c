// Prefix language modelling: where texts are cut, and what is predicted from what.
#include <gtest/gtest.h>

#include <map>

#include "base/json_reader.h"
#include "train/corruption.h"
#include "train/rank_runs.h"

namespace ondol {
namespace {

using namespace testing;

TEST(PrefixLm, EncoderDecodersReadThePrefixAndWriteTheRest) {
  const auto model = encoder_decoder();
  const Vocabulary words = corruption_vocabulary();
  const int64_t rows = 25000, length = 41;  // a million tokens
  const Batch text = counting_samples(rows, length);
  const Batch out = make_objective(R"({"type": "prefix_lm"})")->prepare(text, {.model = *model, .vocabulary = &words});
  std::map<size_t, int64_t> prefixes;
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int32_t> merged = row_without(out.input_ids, row, kPad);
    const std::vector<int32_t> target = row_without(out.labels, row, kIgnoreIndex);
    ++prefixes[merged.size()];
    merged.insert(merged.end(), target.begin(), target.end() - 1);
    ASSERT_EQ(merged, row_of(text.input_ids, row));
    ASSERT_EQ(target.back(), kEnd);
  }
  for (size_t prefix = 1; prefix <= 40; ++prefix) {
    EXPECT_NEAR(static_cast<double>(prefixes[prefix]) / rows, 1.0 / 40.0, share_bound(1.0 / 40.0, rows)) << prefix;
  }
  EXPECT_EQ(prefixes.size(), 40u);
}

/// Rows of two documents, of 20 and of 10 tokens.
Batch pairs_of_documents(int64_t rows) {
  std::vector<int32_t> ids, documents, labels;
  for (int64_t i = 0; i < rows * 30; ++i) {  // documents of 20 and 10 tokens
    const auto place = static_cast<int32_t>(i % 30);
    ids.push_back(100 + place);
    documents.push_back(place < 20 ? 0 : 1);
    labels.push_back(place == 19 ? kIgnoreIndex : 101 + place);  // that of the last one lies behind the sample
  }
  Batch batch;
  batch.input_ids = Tensor::from_vector(ids, {rows, 30});
  batch.document_ids = Tensor::from_vector(documents, {rows, 30});
  batch.labels = Tensor::from_vector(labels, {rows, 30});
  return batch;
}

TEST(PrefixLm, DecodersHaveAPrefixInEachDocument) {
  const auto model = decoder();
  const int64_t rows = 2000;
  const Batch batch = pairs_of_documents(rows);
  const std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>(), labels = batch.labels.to_vector<int32_t>();
  const Batch out = make_objective(R"({"type": "prefix_lm"})")->prepare(batch, {.model = *model});
  EXPECT_EQ(out.input_ids.to_vector<int32_t>(), ids);
  std::map<int64_t, int64_t> first, second;
  for (int64_t row = 0; row < rows; ++row) {
    const std::vector<int32_t> targets = row_of(out.labels, row);
    const auto prefix_of = [&](int64_t begin, int64_t end) {
      int64_t at = begin;
      while (at < end && targets[static_cast<size_t>(at)] == kIgnoreIndex) ++at;
      for (int64_t i = at; i < end; ++i) {
        EXPECT_EQ(targets[static_cast<size_t>(i)], labels[static_cast<size_t>(i)]) << "all behind the prefix count";
      }
      return at - begin + 1;
    };
    ++first[prefix_of(0, 20)];
    ++second[prefix_of(20, 30)];
  }
  for (int64_t prefix = 1; prefix < 20; ++prefix) {
    EXPECT_NEAR(static_cast<double>(first[prefix]) / rows, 1.0 / 19.0, share_bound(1.0 / 19.0, rows)) << prefix;
  }
  EXPECT_EQ(first.size(), 19u);
  EXPECT_EQ(second.size(), 9u);
}

TEST(PrefixLm, BidirectionalPrefixesAreWhereNothingIsPredicted) {
  const auto model = decoder();
  const Batch batch = pairs_of_documents(50);
  const ObjectiveContext context{.model = *model, .seed = 5};
  const Batch plain = make_objective(R"({"type": "prefix_lm"})")->prepare(batch, context);
  EXPECT_EQ(plain.find("prefix_ends"), nullptr);
  const auto objective = make_objective(R"({"type": "prefix_lm", "bidirectional_prefix": true})");
  const Batch out = objective->prepare(batch, context);
  EXPECT_EQ(out.labels.to_vector<int32_t>(), plain.labels.to_vector<int32_t>()) << "the same prefixes";
  ASSERT_NE(out.find("prefix_ends"), nullptr);
  for (int64_t row = 0; row < 50; ++row) {
    const std::vector<int32_t> labels = row_of(out.labels, row);
    std::vector<int32_t> expected(30, 0);
    for (const auto& [begin, end] : {std::pair{0, 20}, std::pair{20, 30}}) {
      int at = begin;
      while (labels[static_cast<size_t>(at)] == kIgnoreIndex) ++at;
      ASSERT_LT(at, end);
      std::fill(expected.begin() + begin, expected.begin() + at + 1, at + 1);  // the last one predicts
    }
    ASSERT_EQ(row_of(*out.find("prefix_ends"), row), expected) << row;
  }
  const std::string text = describe_batch(out.rows(3, 1));
  const auto marks = static_cast<int32_t>(std::count(text.begin(), text.end(), 'y'));
  const std::vector<int32_t> ends = row_of(*out.find("prefix_ends"), 3);
  EXPECT_EQ(marks, 30 - std::count(ends.begin(), ends.end(), 0)) << text;

  // A model that reads prompts in both directions is told that there are none.
  const auto reader = decoder();
  reader->set_bidirectional_prefix(true);
  const Batch causal = make_objective(R"({"type": "prefix_lm"})")->prepare(batch, {.model = *reader, .seed = 5});
  ASSERT_NE(causal.find("prefix_ends"), nullptr);
  EXPECT_EQ(causal.find("prefix_ends")->to_vector<int32_t>(), std::vector<int32_t>(50 * 30, 0));
}

/// The rows of a tiny run without labels, which the objective makes itself.
struct BidirectionalRuns : ::testing::Test {
  void SetUp() override {
    write_rank_inputs(directory);
    for (const char* name : {"train", "valid"}) {
      const std::string path = directory / (std::string(name) + ".safetensors");
      const Tensor ids = SafetensorsFile(path).tensor("input_ids").clone();
      write_safetensors(path, {{"input_ids", ids}});
    }
  }
  TrainConfig config(const std::string& run, std::vector<std::string> overrides = {}) const {
    overrides.insert(overrides.begin(), R"(objective={"type": "prefix_lm", "bidirectional_prefix": true})");
    return tiny_config(directory, run, overrides);
  }
  void train(const TrainConfig& config) const { EXPECT_TRUE(Trainer(config, {.device = "cpu"}).run().finished); }

  TemporaryDirectory directory;
};

TEST_F(BidirectionalRuns, RanksAndGradientCheckpointingGiveTheSameBytes) {
  train(config("one"));
  EXPECT_EQ(load_json(directory / "one/final/config.json")["bidirectional_prefix"], true);
  EXPECT_TRUE(load_model(directory / "one/checkpoint-4")->info().bidirectional_prefix);
  ASSERT_EQ(train_on(2, [&](int) { return config("two"); }), std::vector<std::string>(2));
  expect_same_run(directory, "one", "two");
  train(config("again", {"train.gradient_checkpointing=true"}));
  EXPECT_EQ(directory.read("one/final/model.safetensors"), directory.read("again/final/model.safetensors"));
  train(config("causal", {"objective.bidirectional_prefix=false"}));
  EXPECT_NE(directory.read("one/final/model.safetensors"), directory.read("causal/final/model.safetensors"));
  EXPECT_FALSE(load_json(directory / "causal/final/config.json").contains("bidirectional_prefix"));
}

TEST_F(BidirectionalRuns, AnAdapterCannotChangeTheDirection) {
  train(config("one", {"train.steps=4"}));
  const auto tuned = [&](const std::string& run, const std::string& direction) {
    return config(run, {"model={\"from\": \"" + directory / "one/final" + "\"}", "train.steps=4",
                        R"(lora={"rank": 2, "targets": ["c_attn"]})", "objective.bidirectional_prefix=" + direction});
  };
  train(tuned("same", "true"));
  EXPECT_TRUE(load_model(directory / "same/final")->info().bidirectional_prefix);
  try {
    Trainer(tuned("other", "false"), {.device = "cpu"}).run();
    FAIL() << "not refused";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("objective.bidirectional_prefix"), std::string::npos) << error.what();
  }
}

TEST(PrefixLm, TheShareOfThePrefixHasBounds) {
  const auto model = encoder_decoder();
  const Vocabulary words = corruption_vocabulary();
  const auto objective = make_objective(R"({"type": "prefix_lm", "min_prefix": 0.5, "max_prefix": 0.75})");
  const Batch out = objective->prepare(counting_samples(500, 40), {.model = *model, .vocabulary = &words});
  size_t least = 40, most = 0;
  for (int64_t row = 0; row < 500; ++row) {
    const size_t prefix = row_without(out.input_ids, row, kPad).size();
    least = std::min(least, prefix);
    most = std::max(most, prefix);
  }
  EXPECT_EQ(least, 20u);
  EXPECT_EQ(most, 30u);
  const auto fixed = make_objective(R"({"type": "prefix_lm", "min_prefix": 0.5, "max_prefix": 0.5})");
  const Batch half = fixed->prepare(counting_samples(5, 40), {.model = *model, .vocabulary = &words});
  EXPECT_EQ(half.input_ids.shape(), (Shape{5, 20}));
}

TEST(PrefixLm, RefusesWhatDoesNotFit) {
  const auto t5 = encoder_decoder(), gpt = decoder(), bert = encoder();
  const Vocabulary words = corruption_vocabulary();
  const Batch text = counting_samples(1, 40);
  const std::string settings = R"({"type": "prefix_lm"})";
  EXPECT_EQ(refusal(settings, *t5, &words, text), "");
  EXPECT_EQ(refusal(settings, *gpt, nullptr, text), "");
  const std::string both_ways = R"({"type": "prefix_lm", "bidirectional_prefix": true})";
  EXPECT_EQ(refusal(both_ways, *gpt, nullptr, text), "");
  EXPECT_NE(refusal(both_ways, *t5, &words, text).find("the encoder of a t5 model"), std::string::npos);
  EXPECT_NE(refusal(settings, *bert, &words, text).find("needs a decoder or an encoder-decoder"), std::string::npos);
  EXPECT_NE(refusal(settings, *t5, nullptr, text).find("end token"), std::string::npos);
  EXPECT_THROW(make_objective(R"({"type": "prefix_lm", "min_prefix": 0.8, "max_prefix": 0.5})"), UsageError);
}

}  // namespace
}  // namespace ondol
