// Published and reference encodings of WordPiece tokenizers.
#include <ondol/tokenizer/tokenizer.h>

#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

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

}  // namespace
}  // namespace ondol
