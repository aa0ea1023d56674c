// Words, labels and pairs as Hugging Face tokenizers lay them out. Expected ids and word numbers: tokenizers 0.23.3,
// transformers 5.23.0 (is_split_into_words, word_ids(); truncation "longest_first").
#include "train/objectives/encoder_inputs.h"

#include <gtest/gtest.h>

#include "data/record_encoder.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

namespace ondol {
namespace {

using Ids = std::vector<int32_t>;

const std::vector<std::string> kWords = {"Hugging",      "Face", "'s",   "NYC",          "office", "don't",    "café",
                                         "unbelievably", "U.S.", "東京", "tokenization", "\u200b", "3,141.59", "!"};

/// A model with a label for each word: "w0" to "w13".
std::unique_ptr<Model> tagging_model(const std::string& family, const std::string& architecture, int64_t vocabulary) {
  const testing::TemporaryDirectory directory;
  Json config = {{"model_type", family},      {"architectures", {architecture}}, {"vocab_size", vocabulary},
                 {"hidden_size", 8},          {"num_hidden_layers", 1},          {"num_attention_heads", 1},
                 {"intermediate_size", 8},    {"max_position_embeddings", 64},   {"id2label", Json::object()},
                 {"label2id", Json::object()}};
  for (size_t w = 0; w < kWords.size(); ++w) {
    config["id2label"][std::to_string(w)] = concat("w", w);
    config["label2id"][concat("w", w)] = w;
  }
  return create_model(directory.write("config.json", config.dump()), DType::f32, {}, 1);
}

std::unique_ptr<Model> bert() { return tagging_model("bert", "BertForTokenClassification", 30522); }

/// The labels that the recipe of transformers (run_ner.py) gives tokens of these words: each word's first token has
/// one.
Ids labels_of(const Ids& word_ids) {
  Ids labels;
  for (size_t i = 0; i < word_ids.size(); ++i) {
    const bool first = word_ids[i] >= 0 && (i == 0 || word_ids[i] != word_ids[i - 1]);
    labels.push_back(first ? word_ids[i] : kIgnoreIndex);
  }
  return labels;
}

void check_words(const Model& model, const Tokenizer& tokenizer, int64_t length, const Ids& ids, const Ids& word_ids) {
  const RecordContext context{.model = model, .tokenizer = &tokenizer, .sequence_length = length};
  const EncodedTexts words = EncoderInputs(context, "token_classification").encode_words(kWords);
  EXPECT_EQ(words.ids, ids);
  EXPECT_EQ(words.word_ids, word_ids);
  EXPECT_EQ(words.truncated, length == 12);

  Json record = {{"words", kWords}, {"tags", Json::array()}};
  for (size_t w = 0; w < kWords.size(); ++w) record["tags"].push_back(concat("w", w));
  const auto encoder = make_objective(R"({"type": "token_classification"})")->record_encoder(context);
  EncodedRecord out;
  encoder->encode(Record(record, std::make_shared<const std::string>("words.jsonl"), 1, true, nullptr), out);
  ASSERT_EQ(out.samples.size(), 1u);
  ASSERT_EQ(encoder->columns().back().name, "labels");
  EXPECT_EQ(std::get<Ids>(out.samples[0].values.front()), ids);
  EXPECT_EQ(std::get<Ids>(out.samples[0].values.back()), labels_of(word_ids));
}

TEST(EncoderInputs, WordsOfAWordPieceVocabulary) {
  ONDOL_REQUIRE_DATA("tokenizers/bert-base-uncased/tokenizer.json");
  const Tokenizer tokenizer = load_tokenizer(test::data_path("tokenizers/bert-base-uncased"));
  // The word that is no character at all has no token.
  check_words(*bert(), tokenizer, 64,
              {101,  17662, 2227, 1005, 1055, 16392, 2436,  2123, 1005, 1056, 7668,  4895, 8671, 2666, 3567, 6321,
               1057, 1012,  1055, 1012, 1879, 1755,  19204, 3989, 1017, 1010, 15471, 1012, 5354, 999,  102},
              {-1, 0, 1, 2, 2, 3, 4, 5, 5, 5, 6, 7, 7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 10, 10, 12, 12, 12, 12, 12, 13, -1});
  check_words(*bert(), tokenizer, 12, {101, 17662, 2227, 1005, 1055, 16392, 2436, 2123, 1005, 1056, 7668, 102},
              {-1, 0, 1, 2, 2, 3, 4, 5, 5, 5, 6, -1});
}

TEST(EncoderInputs, WordsOfAByteLevelVocabularyHaveASpaceBefore) {
  ONDOL_REQUIRE_DATA("tokenizers/roberta-base/tokenizer.json");
  const Tokenizer tokenizer = load_tokenizer(test::data_path("tokenizers/roberta-base"));
  const auto model = tagging_model("roberta", "RobertaForTokenClassification", 50265);
  // As with ByteLevel(add_prefix_space=True), which transformers asks for words.
  check_words(*model, tokenizer, 60,
              {0,     30581, 3923,  12346, 128,   29,    14415, 558,   218, 75, 26059, 37064, 121,  4,     104, 4,
               47416, 46,    15389, 46499, 11582, 19233, 1938,  12227, 155, 6,  27142, 4,     4156, 27785, 2},
              {-1, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 8, 8, 9, 9, 9, 9, 9, 10, 10, 11, 12, 12, 12, 12, 12, 13, -1});
  check_words(*model, tokenizer, 12, {0, 30581, 3923, 12346, 128, 29, 14415, 558, 218, 75, 26059, 2},
              {-1, 0, 0, 1, 2, 2, 3, 4, 5, 5, 6, -1});
}

TEST(EncoderInputs, PairsAreCutTheLongerOneFirst) {
  ONDOL_REQUIRE_DATA("tokenizers/bert-base-uncased/tokenizer.json");
  const Tokenizer tokenizer = load_tokenizer(test::data_path("tokenizers/bert-base-uncased"));
  const auto model = bert();
  const std::string fox = "The quick brown fox jumps over the lazy dog near the riverbank.",
                    token = "Unbelievable tokenization happens here.";
  struct Case {
    int64_t length;
    bool fox_first;
    Ids ids;
    int64_t second;  // tokens of the second text and its [SEP]
  };
  const std::vector<Case> cases = {
      {20,
       true,
       {101,  1996, 4248, 2829,  4419,  14523, 2058, 1996, 13971, 3899,
        2379, 1996, 102,  23653, 19204, 3989,  6433, 2182, 1012,  102},
       7},
      {16, true, {101, 1996, 4248, 2829, 4419, 14523, 2058, 1996, 102, 23653, 19204, 3989, 6433, 2182, 1012, 102}, 7},
      {12, true, {101, 1996, 4248, 2829, 4419, 14523, 102, 23653, 19204, 3989, 6433, 102}, 5},
      {9, true, {101, 1996, 4248, 2829, 102, 23653, 19204, 3989, 102}, 4},
      {8, true, {101, 1996, 4248, 2829, 102, 23653, 19204, 102}, 3},
      {5, true, {101, 1996, 102, 23653, 102}, 2},
      {16, false, {101, 23653, 19204, 3989, 6433, 2182, 1012, 102, 1996, 4248, 2829, 4419, 14523, 2058, 1996, 102}, 8},
      {12, false, {101, 23653, 19204, 3989, 6433, 102, 1996, 4248, 2829, 4419, 14523, 102}, 6},
      {8, false, {101, 23653, 19204, 102, 1996, 4248, 2829, 102}, 4},
      {5, false, {101, 23653, 102, 1996, 102}, 2}};
  for (const Case& c : cases) {
    const RecordContext context{.model = *model, .tokenizer = &tokenizer, .sequence_length = c.length};
    const EncodedTexts pair =
        EncoderInputs(context, "classification").encode(c.fox_first ? fox : token, c.fox_first ? &token : &fox);
    EXPECT_EQ(pair.ids, c.ids) << c.length << " " << c.fox_first;
    EXPECT_TRUE(pair.truncated);
    Ids types(c.ids.size(), 0);
    std::fill(types.end() - c.second, types.end(), 1);
    EXPECT_EQ(pair.type_ids, types) << c.length << " " << c.fox_first;
  }
}

}  // namespace
}  // namespace ondol
