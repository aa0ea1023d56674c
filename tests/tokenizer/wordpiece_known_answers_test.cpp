// Published and reference encodings of WordPiece tokenizers.
#include <ondol/tokenizer/tokenizer.h>

#include <filesystem>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>

#include "tokenizer/golden.h"
#include "tokenizer/test_data.h"

namespace ondol {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

class WordPieceKnownAnswers : public ::testing::Test {
 protected:
  void SetUp() override {
    if (data_root().empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  }
};

TEST_F(WordPieceKnownAnswers, GoldenBert) { check_golden(load("bert-base-uncased"), "hf_bert-base-uncased", kParsed); }

TEST_F(WordPieceKnownAnswers, VocabTxtAlone) {
  const Tokenizer tokenizer = load("bert-base-uncased/vocab.txt");
  check_golden(tokenizer, "hf_bert-base-uncased", kParsed);
  EXPECT_EQ(tokenizer.special_token_id("mask"), 103);
  EXPECT_EQ(tokenizer.special_token_id("pad"), 0);
}

TEST_F(WordPieceKnownAnswers, SavedTokenizersGiveTheSame) {
  const auto directory = scratch_directory("wordpiece_saved").string();
  load("bert-base-uncased/vocab.txt").save(directory);
  check_golden(load_tokenizer(directory), "hf_bert-base-uncased", kParsed);
  std::filesystem::remove_all(directory);
}

TEST_F(WordPieceKnownAnswers, SentencesOfMiniLm) {
  const Tokenizer tokenizer = load_tokenizer(data_path("models/all-minilm-l6-v2"));
  EXPECT_EQ(tokenizer.max_length(), 256);  // sentence_bert_config.json, against 128 in tokenizer.json
  ASSERT_TRUE(tokenizer.truncation());
  EXPECT_EQ(tokenizer.truncation()->max_length, 128);
  ASSERT_TRUE(tokenizer.padding());
  EXPECT_EQ(tokenizer.padding()->length, 128);
  const json file = json::parse(read_text(data_path("vectors/minilm/sentences.json")));
  size_t cases = 0;
  for (const json& sentence : file["sentences"]) {
    const std::string text = sentence["text"];
    const Ids ids = sentence["ids"];
    EXPECT_EQ(tokenizer.encode(text, {.max_length = tokenizer.max_length()}), ids) << text;
    EXPECT_EQ(tokenizer.encode(text).size(), sentence["tokens_before_truncation"].get<size_t>()) << text;
    ++cases;
  }
  EXPECT_EQ(cases, 12u);
}

TEST_F(WordPieceKnownAnswers, SquadQuestions) {
  const Tokenizer tokenizer = load("bert-base-uncased");
  std::istringstream lines(read_gzip(data_path("vectors/tokenization/bert_squad_questions.jsonl.gz")));
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  for (std::string line; std::getline(lines, line);) {
    const json entry = json::parse(line);
    texts.push_back(entry["text"]);
    expected.push_back(entry["ids"]);
  }
  ASSERT_EQ(texts.size(), 7047u);
  const std::vector<Ids> ids = tokenizer.encode_batch(texts, kPlain);
  for (size_t i = 0; i < texts.size(); ++i) ASSERT_EQ(ids[i], expected[i]) << texts[i];
}

TEST_F(WordPieceKnownAnswers, SwiftTransformers) {
  const json entry =
      json::parse(read_text(data_path("vectors/tokenization/swift_transformers/bert_uncased_encoded.json")));
  const Tokenizer tokenizer = load("bert-base-uncased");
  const std::string text = entry["text"];
  const Ids ids = entry["token_ids"];
  EXPECT_EQ(tokenizer.encode(text), ids);
  EXPECT_EQ(clean_up_spaces(tokenizer.decode(ids)), entry["decoded_text"].get<std::string>());
}

TEST_F(WordPieceKnownAnswers, TransformersJs) {
  const json models = json::parse(read_text(data_path("vectors/tokenization/transformers_js.json")));
  const Tokenizer tokenizer = load("bert-base-uncased");
  int count = 0;
  for (const char* name : {"Xenova/bert-base-uncased", "Xenova/distilbert-base-uncased-finetuned-sst-2-english"}) {
    for (const auto& [label, entry] : models.at(name)["cases"].items()) {
      check_published(tokenizer, entry, label);
      ++count;
    }
  }
  EXPECT_EQ(count, 28);
}

TEST_F(WordPieceKnownAnswers, PairsWithOffsetsAndTruncation) {
  const Tokenizer tokenizer = load("bert-base-uncased");
  const Encoding pair = tokenizer.encode_detailed("hello big world", "how are you", {.max_length = 8});
  // [CLS] 5 tokens in two texts [SEP] [SEP]: three and two after longest_first.
  EXPECT_EQ(pair.ids, (Ids{101, 7592, 2502, 102, 2129, 2024, 2017, 102}));
  EXPECT_EQ(pair.type_ids, (Ids{0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(pair.sequence_ids, (Ids{-1, 0, 0, -1, 1, 1, 1, -1}));
  EXPECT_EQ(pair.word_ids, (Ids{-1, 0, 1, -1, 0, 1, 2, -1}));
  EXPECT_EQ(pair.offsets[2], (TextRange{6, 9}));
  EXPECT_EQ(pair.offsets[6], (TextRange{8, 11}));
  const EncodeOptions second{.max_length = 7, .truncation = TruncationStrategy::only_second};
  EXPECT_EQ(tokenizer.encode_pair("hello world", "how are you", second).ids,
            (Ids{101, 7592, 2088, 102, 2129, 2024, 102}));
  EXPECT_EQ(tokenizer.encode("hello big world", {.max_length = 4, .truncate_left = true}), (Ids{101, 2502, 2088, 102}));
  EXPECT_THROW(tokenizer.encode("hello", {.max_length = 1}), UsageError);
  std::vector<Encoding> batch = {tokenizer.encode_detailed("hello"), pair};
  pad_encodings(batch, {.multiple_of = 5});
  EXPECT_EQ(batch[0].ids, (Ids{101, 7592, 102, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(batch[0].attention_mask, (std::vector<uint8_t>{1, 1, 1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(batch[1].ids.size(), 10u);
}

// KoELECTRA's vocabulary is cased: ids by its vocab.txt, line by line, of words that are pieces of their own.
TEST_F(WordPieceKnownAnswers, KoElectra) {
  const Tokenizer tokenizer = load_tokenizer(data_path("tokenizers/koelectra/vocab.txt"), {.lowercase = false});
  EXPECT_EQ(tokenizer.vocab_size(), 32200);
  int32_t line_number = 0, checked = 0;
  std::istringstream lines(read_text(data_path("tokenizers/koelectra/vocab.txt")));
  for (std::string line; std::getline(lines, line); ++line_number) {
    if (line.starts_with("##") || line.starts_with("[") || line_number % 7 != 0) continue;
    const Ids ids = tokenizer.encode(line, kPlain);
    if (ids.size() != 1) continue;  // symbols that the pre-tokenizer cuts
    EXPECT_EQ(ids[0], line_number) << line;
    ++checked;
  }
  EXPECT_GT(checked, 2000);
}

}  // namespace
}  // namespace ondol
