// Published and reference encodings of SentencePiece tokenizers: .model files, their tokenizer.json forms, llama2.c.
#include <ondol/tokenizer/tokenizer.h>

#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tokenizer/gguf_metadata.h"
#include "tokenizer/golden.h"
#include "tokenizer/test_data.h"

namespace ondol {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

class SentencePieceKnownAnswers : public ::testing::Test {
 protected:
  void SetUp() override {
    if (data_root().empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  }
};

TEST_F(SentencePieceKnownAnswers, GoldenMistral) { check_golden(load("mistral"), "hf_mistral", kParsed); }
TEST_F(SentencePieceKnownAnswers, GoldenPhi3) { check_golden(load("phi-3-mini"), "hf_phi-3-mini", kParsed); }
TEST_F(SentencePieceKnownAnswers, GoldenT5) { check_golden(load("t5-small"), "hf_t5-small", kParsed); }

TEST_F(SentencePieceKnownAnswers, GoldenModels) {
  const std::pair<const char*, const char*> models[] = {
      {"tokenizers/llama2/tokenizer.model", "spm_llama2"},
      {"tokenizers/mistral/tokenizer.model.v1", "spm_mistral-v1"},
      {"tokenizers/albert-base/spiece.model", "spm_albert-base"},
      {"tokenizers/deberta-v3/spm.model", "spm_deberta-v3"},
      {"tokenizers/sentencepiece/test_model.model", "spm_spm-test-unigram"},
      {"tokenizers/sentencepiece/test_sentencepiece_bpe.model", "spm_spm-test-bpe"},
      {"tokenizers/sentencepiece/test_ja_model.model", "spm_spm-test-ja"},
      {"models/stories260K/tok512.model", "spm_stories260K"}};
  for (const auto& [file, golden] : models) {
    EXPECT_GE(check_golden_file(load_tokenizer(data_path(file)), golden, kPlain), 150) << golden;
  }
}

TEST_F(SentencePieceKnownAnswers, OffsetsOfModels) {
  // The pieces lie one after another in the text; what is between them is white space.
  const Tokenizer tokenizer = load_tokenizer(data_path("tokenizers/llama2/tokenizer.model"));
  const std::string text = "Hello  world, \ud55c\uad6d\uc5b4!";
  const Encoding encoding = tokenizer.encode_detailed(text, kPlain);
  size_t end = 0;
  for (const TextRange& range : encoding.offsets) {
    EXPECT_LE(range.begin, range.end);
    EXPECT_GE(range.end, end);
    end = range.end;
  }
  EXPECT_EQ(end, text.size());
}

TEST_F(SentencePieceKnownAnswers, LlamaCpp) {
  EXPECT_EQ(check_llama_cpp(load_tokenizer(data_path("tokenizers/llama2/tokenizer.model")), "llama-spm"), 46u);
}

TEST_F(SentencePieceKnownAnswers, GgufVocabulary) {
  for (const char* name : {"llama-spm", "phi-3"}) {
    const json metadata = GgufMetadata::read(data_path(std::string("tokenizers/gguf/ggml-vocab-") + name + ".gguf"));
    SentencePieceParts parts;
    parts.tokens = metadata["tokenizer.ggml.tokens"].get<std::vector<std::string>>();
    parts.scores = metadata["tokenizer.ggml.scores"].get<std::vector<float>>();
    for (const int type : metadata["tokenizer.ggml.token_type"]) parts.types.push_back(static_cast<PieceType>(type));
    parts.special_tokens = {{"bos", "<s>"}, {"eos", "</s>"}};
    parts.add_bos = true;
    const Tokenizer tokenizer = make_sentencepiece_tokenizer(parts, name);
    EXPECT_EQ(check_llama_cpp(tokenizer, name), 46u);
    EXPECT_EQ(tokenizer.encode("Hello").front(), 1);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("Hello world"), true), "Hello world");
  }
}

TEST_F(SentencePieceKnownAnswers, Llama2c) {
  const json cases = json::parse(read_text(data_path("vectors/tokenization/small_published.json")))["llama2"]["cases"];
  const Tokenizer bin = load_tokenizer(data_path("tokenizers/llama2/tokenizer.bin"));
  int count = 0;
  for (const json& entry : cases) {
    EXPECT_EQ(bin.encode(entry[0].get<std::string>()), entry[1].get<Ids>()) << entry[0];
    ++count;
  }
  EXPECT_EQ(count, static_cast<int>(cases.size()));
  EXPECT_GE(count, 5);
  // The small vocabulary against the .model that it was made from.
  const Tokenizer small = load_tokenizer(data_path("models/stories260K/tok512.bin"));
  const Tokenizer model = load_tokenizer(data_path("models/stories260K/tok512.model"));
  const std::string story = "Once upon a time, there was a little girl named Lily.";
  EXPECT_EQ(small.encode(story, kPlain), model.encode(story, kPlain));
  EXPECT_EQ(small.vocab_size(), 512);
  EXPECT_EQ(small.decode(small.encode(story), true), story);
}

TEST_F(SentencePieceKnownAnswers, SwiftTransformers) {
  const json entry = json::parse(read_text(data_path("vectors/tokenization/swift_transformers/llama_encoded.json")));
  const Tokenizer tokenizer = load_tokenizer(data_path("tokenizers/llama2/tokenizer.bin"));
  const Ids ids = entry["token_ids"];
  EXPECT_EQ(tokenizer.encode(entry["text"].get<std::string>()), ids);
  EXPECT_EQ("<s> " + tokenizer.decode(std::span(ids).subspan(1)), entry["decoded_text"].get<std::string>());
}

TEST_F(SentencePieceKnownAnswers, SavedTokenizersGiveTheSame) {
  const auto directory = scratch_directory("sentencepiece_saved").string();
  const std::pair<const char*, const char*> models[] = {
      {"tokenizers/llama2/tokenizer.model", "spm_llama2"},
      {"tokenizers/albert-base/spiece.model", "spm_albert-base"},
      {"tokenizers/deberta-v3/spm.model", "spm_deberta-v3"},
      {"tokenizers/sentencepiece/test_sentencepiece_bpe.model", "spm_spm-test-bpe"}};
  for (const auto& [file, golden] : models) {
    load_tokenizer(data_path(file)).save(directory);
    EXPECT_GE(check_golden_file(load_tokenizer(directory), golden, kPlain), 150) << golden;
  }
  load("t5-small").save(directory);
  check_golden(load_tokenizer(directory), "hf_t5-small", kParsed);
  load("phi-3-mini").save(directory);
  check_golden(load_tokenizer(directory), "hf_phi-3-mini", kParsed);
  std::filesystem::remove_all(directory);
}

TEST_F(SentencePieceKnownAnswers, TransformersJs) {
  const json models = json::parse(read_text(data_path("vectors/tokenization/transformers_js.json")));
  const Tokenizer tokenizer = load("t5-small");
  int count = 0;
  for (const auto& [label, entry] : models.at("Xenova/t5-small")["cases"].items()) {
    check_published(tokenizer, entry, label);
    ++count;
  }
  EXPECT_EQ(count, 20);
}

TEST_F(SentencePieceKnownAnswers, WholeCorpora) {
  for (const char* file : {"tokenizers/llama2/tokenizer.model", "tokenizers/mistral/tokenizer.json"}) {
    const Tokenizer tokenizer = load_tokenizer(data_path(file));
    check_corpus(tokenizer, "moby_dick.txt", true);
    check_corpus(tokenizer, "wagahai_ja.txt", true);
    check_corpus(tokenizer, "nsmc_reviews_ko.txt", true);
  }
  check_corpus(load("t5-small"), "german_de.txt", false);
  check_corpus(load_tokenizer(data_path("tokenizers/deberta-v3/spm.model")), "moby_dick.txt", false);
  check_corpus(load("bert-base-uncased"), "sample_text_multilingual.txt", false);
}

}  // namespace
}  // namespace ondol
