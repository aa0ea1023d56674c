// Sources and targets as samples of a fine-tuning run.
#include <ondol/base/error.h>
#include <ondol/data/data_loader.h>
#include <ondol/train/objective.h>

#include <gtest/gtest.h>

#include "data/record_encoder.h"
#include "support/byte_tokenizer.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using testing::byte_tokenizer;
using testing::error_of;
using testing::kTurnEnd;
using testing::kTurnStart;
using testing::TemporaryDirectory;

std::unique_ptr<Model> tiny_t5(const Tokenizer& tokenizer) {
  const TemporaryDirectory directory;
  return create_model(directory.write("config.json", concat(R"({"model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"], "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1,
    "num_heads": 2, "pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": )",
                                                            *tokenizer.special_token_id("eos"),
                                                            ", \"vocab_size\": ", tokenizer.vocab_size(), "}")),
                      DType::f32, {}, 1);
}

struct Loaded {
  Loaded(const Tokenizer& tokenizer, const std::string& lines, const std::string& settings, int64_t length)
      : model(tiny_t5(tokenizer)), objective(make_objective(settings)) {
    DataConfig config;
    config.train = {{.path = directory.write("pairs.jsonl", lines)}};
    config.sequence_length = length;
    config.shuffle = false;
    loader.emplace(
        config, DataSplit::train,
        DataContext{.record_encoder = objective->record_encoder(
                        {.model = *model, .tokenizer = &tokenizer, .sequence_length = length, .evaluation = true})});
  }
  TemporaryDirectory directory;
  std::unique_ptr<Model> model;
  std::unique_ptr<Objective> objective;
  std::optional<DataLoader> loader;
};

TEST(Seq2Seq, LabelsEndAndTheDecoderReadsThemShifted) {
  const Loaded loaded(byte_tokenizer(),
                      "{\"source\": \"ab\", \"target\": [\"xyz\", \"x\"]}\n"
                      "{\"source\": [\"a\", \"b\"], \"target\": \"y\"}\n",
                      R"({"type": "seq2seq", "source_prefix": "T: ", "max_target_length": 8})", 16);
  const Batch batch =
      loaded.objective->prepare(const_cast<DataLoader&>(*loaded.loader).next(2), {.model = *loaded.model});
  const std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>();
  EXPECT_EQ((std::vector<int32_t>{ids.begin(), ids.begin() + 8}),
            (std::vector<int32_t>{'T', ':', ' ', 'a', 'b', 0, 0, 0}));
  EXPECT_EQ((std::vector<int32_t>{ids.begin() + 8, ids.end()}),
            (std::vector<int32_t>{'T', ':', ' ', 'a', ' ', 'b', 0, 0}));
  EXPECT_EQ(batch.attention_mask.to_vector<uint8_t>(),
            (std::vector<uint8_t>{1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0}));
  const std::vector<int32_t> labels = batch.labels.to_vector<int32_t>();
  const int32_t no = kIgnoreIndex;
  EXPECT_EQ(labels,
            (std::vector<int32_t>{'x', 'y', 'z', kTurnEnd, no, no, no, no, 'y', kTurnEnd, no, no, no, no, no, no}));
  const std::vector<int32_t> decoder = batch.find("decoder_input_ids")->to_vector<int32_t>();
  EXPECT_EQ((std::vector<int32_t>{decoder.begin(), decoder.begin() + 4}), (std::vector<int32_t>{0, 'x', 'y', 'z'}));
  EXPECT_EQ((std::vector<int32_t>{decoder.begin() + 8, decoder.begin() + 10}), (std::vector<int32_t>{0, 'y'}));
  EXPECT_EQ(loaded.loader->origin(0).reference, R"(["xyz","x"])");
  EXPECT_EQ(loaded.objective->count_targets(batch, *loaded.model), std::vector<int64_t>{6});
}

/// transformers' MBartTokenizer puts (end, code) behind a text, MBart50Tokenizer the code before it and the end behind.
TEST(Seq2Seq, LanguagesHaveTheirTokens) {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::string line = "{\"source\": \"abcde\", \"target\": \"xyz\"}\n";
  const auto settings = [](const std::string& position) {
    return concat(R"({"type": "seq2seq", "max_target_length": 5, "metrics": [], "source_language": "S",
        "target_language": "<|im_start|>", "language_position": ")",
                  position, "\"}");
  };
  Loaded behind(tokenizer, line, settings("suffix"), 6);
  const Batch suffix = behind.loader->next(1);
  EXPECT_EQ(suffix.input_ids.to_vector<int32_t>(), (std::vector<int32_t>{'a', 'b', 'c', 'd', kTurnEnd, 'S'}));
  EXPECT_EQ(suffix.labels.to_vector<int32_t>(), (std::vector<int32_t>{'x', 'y', 'z', kTurnEnd, kTurnStart}));
  Loaded before(tokenizer, line, settings("prefix"), 16);
  const Batch prefix = before.loader->next(1);
  const std::vector<int32_t> ids = prefix.input_ids.to_vector<int32_t>();
  EXPECT_EQ((std::vector<int32_t>{ids.begin(), ids.begin() + 7}),
            (std::vector<int32_t>{'S', 'a', 'b', 'c', 'd', 'e', kTurnEnd}));
  EXPECT_EQ(prefix.labels.to_vector<int32_t>(), (std::vector<int32_t>{kTurnStart, 'x', 'y', 'z', kTurnEnd}));

  const auto error = [&](const std::string& text) { return error_of([&] { Loaded(tokenizer, line, text, 16); }); };
  EXPECT_NE(error(R"({"type": "seq2seq", "source_language": "S"})").find("target_language"), std::string::npos);
  EXPECT_NE(error(R"({"type": "seq2seq", "source_language": "S", "target_language": "de_DE"})")
                .find("objective.target_language \"de_DE\" is no token"),
            std::string::npos);
  EXPECT_NE(error(R"({"type": "seq2seq", "source_language": "S", "target_language": "<|im_start|>"})")
                .find("its decoder_start_token_id is 0"),
            std::string::npos);
}

TEST(Seq2Seq, LongTextsAreCutAndStillEnd) {
  Loaded loaded(byte_tokenizer(), "{\"source\": \"abcdefghijkl\", \"target\": \"uvwxyz\"}\n",
                R"({"type": "seq2seq", "max_target_length": 4})", 5);
  const Batch batch = loaded.loader->next(1);
  EXPECT_EQ(batch.input_ids.to_vector<int32_t>(), (std::vector<int32_t>{'a', 'b', 'c', 'd', 'e'}));
  EXPECT_EQ(batch.labels.to_vector<int32_t>(), (std::vector<int32_t>{'u', 'v', 'w', kTurnEnd}));
  EXPECT_NE(loaded.loader->describe().find(", 1 truncated"), std::string::npos) << loaded.loader->describe();
}

/// T5's tokenizer ends texts itself: ids of transformers' T5TokenizerFast.
TEST(Seq2Seq, PublishedTokenizer) {
  ONDOL_REQUIRE_DATA("tokenizers/t5-small/tokenizer.json");
  const Tokenizer tokenizer = load_tokenizer(test::data_path("tokenizers/t5-small"));
  Loaded loaded(tokenizer, "{\"source\": \"That is good.\", \"target\": \"Das ist gut.\"}\n",
                R"({"type": "seq2seq", "source_prefix": "translate English to German: "})", 64);
  const Batch batch = loaded.loader->next(1);
  std::vector<int32_t> ids = batch.input_ids.to_vector<int32_t>(), labels = batch.labels.to_vector<int32_t>();
  while (ids.back() == 0) ids.pop_back();
  while (labels.back() == kIgnoreIndex) labels.pop_back();
  EXPECT_EQ(ids, (std::vector<int32_t>{13959, 1566, 12, 2968, 10, 466, 19, 207, 5, 1}));
  EXPECT_EQ(labels, (std::vector<int32_t>{644, 229, 1806, 5, 1}));
}

TEST(Seq2Seq, RefusesWhatDoesNotFit) {
  const Tokenizer tokenizer = byte_tokenizer();
  const auto error = [&](const std::string& line) {
    return error_of([&] { Loaded(tokenizer, line, R"({"type": "seq2seq"})", 16); });
  };
  EXPECT_NE(error("{\"source\": \"a\"}").find("no field \"target\""), std::string::npos);
  EXPECT_NE(error("{\"source\": \" \", \"target\": \"b\"}").find("field \"source\" is empty"), std::string::npos);
  EXPECT_NE(error("{\"source\": \"a\", \"target\": []}").find("field \"target\" is empty"), std::string::npos);
  const TemporaryDirectory directory;
  const auto gpt = create_model(directory.write("config.json", R"({"model_type": "gpt2", "vocab_size": 258,
      "architectures": ["GPT2LMHeadModel"], "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32})"),
                                DType::f32, {}, 1);
  EXPECT_NE(
      error_of([&] {
        make_objective(std::string(R"({"type": "seq2seq"})"))->record_encoder({.model = *gpt, .tokenizer = &tokenizer});
      }).find("needs an encoder-decoder"),
      std::string::npos);
}

}  // namespace
}  // namespace ondol
