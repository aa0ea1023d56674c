// Tokenizers of GGUF files against the token ids that llama.cpp publishes for its own vocabularies.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include <gtest/gtest.h>

#include <ondol/io/gguf.h>
#include <ondol/tokenizer/tokenizer.h>

#include "support/error_of.h"
#include "support/gguf_bytes.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"
#include "tokenizer/gguf_tokenizer.h"

namespace ondol {
namespace {

std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class LlamaCppVocabulary : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaCppVocabulary, GivesThePublishedIds) {
  const std::string vocabulary = concat("tokenizers/gguf/ggml-vocab-", GetParam(), ".gguf");
  ONDOL_REQUIRE_DATA(vocabulary);
  const std::string vectors = test::data_path("vectors/tokenization/llama_cpp/");
  const Tokenizer tokenizer = load_tokenizer(test::data_path(vocabulary));
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string texts = contents(vectors + "tests.inp");
  std::istringstream answers(contents(vectors + "ggml-vocab-" + GetParam() + ".gguf.out"));
  int compared = 0;
  for (size_t begin = 0; begin < texts.size(); ++compared) {
    const size_t end = std::min(texts.find(separator, begin), texts.size());
    const std::string text = texts.substr(begin, end - begin);
    begin = end + separator.size();
    std::string line;
    ASSERT_TRUE(std::getline(answers, line)) << compared;
    std::istringstream numbers(line);
    const std::vector<int32_t> expected{std::istream_iterator<int32_t>(numbers), {}};
    EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = false, .parse_special = false}), expected) << text;
  }
  EXPECT_GE(compared, 40);
}

INSTANTIATE_TEST_SUITE_P(Files, LlamaCppVocabulary,
                         ::testing::Values("gpt-2", "llama-spm", "phi-3", "bert-bge", "deepseek-coder"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GgufTokenizer, ErrorsNameTheKey) {
  using testing::GgufBytes;
  const testing::TemporaryDirectory directory;
  const auto why = [&](const GgufBytes& file) {
    const std::string path = directory.write("t.gguf", file.bytes());
    const std::string message = testing::error_of([&] { load_tokenizer(path); });
    return message.substr(0, message.find(" (" + path));
  };
  const auto gpt2 = [] { return GgufBytes().string("tokenizer.ggml.model", "gpt2"); };
  EXPECT_EQ(why(GgufBytes()), "cannot read GGUF: key \"tokenizer.ggml.model\": it is missing");
  EXPECT_EQ(why(GgufBytes().string("tokenizer.ggml.model", "rwkv")),
            "key \"tokenizer.ggml.model\": \"rwkv\" is not supported");
  EXPECT_EQ(why(gpt2()), "cannot read GGUF: key \"tokenizer.ggml.tokens\": it is missing or empty");
  EXPECT_EQ(why(gpt2().string("tokenizer.ggml.pre", "new")),
            "key \"tokenizer.ggml.pre\": pre-tokenizer \"new\" is not supported");
  EXPECT_EQ(why(gpt2().strings("tokenizer.ggml.tokens", {"a"}).i32s("tokenizer.ggml.token_type", {1, 1})),
            "cannot read GGUF: key \"tokenizer.ggml.token_type\": 2 entries for 1 tokens");
  EXPECT_EQ(why(gpt2().strings("tokenizer.ggml.tokens", {"a"}).u32("tokenizer.ggml.eos_token_id", 1)),
            "cannot read GGUF: key \"tokenizer.ggml.eos_token_id\": id 1 is outside of the 1 tokens");
  EXPECT_EQ(why(gpt2().strings("tokenizer.ggml.tokens", {"a"})),
            "cannot read GGUF: key \"tokenizer.ggml.merges\": it is missing");
}

/// The tokenizer of a file that has the keys of llama.cpp alone.
Tokenizer written_and_read(const GgufMetadata& all, const testing::TemporaryDirectory& directory) {
  GgufMetadata keys = {{"general.architecture", std::string("llama")}};
  for (const auto& [key, value] : all) {
    if (key != tokenization::kHuggingFaceTokenizer) keys.emplace_back(key, value);
  }
  write_gguf(directory / "written.gguf", keys, {});
  return load_tokenizer(directory / "written.gguf");
}

TEST(GgufTokenizer, WritesSentencePieceAsThePublishedFileHasIt) {
  ONDOL_REQUIRE_DATA("models/stories260K");
  const Tokenizer tokenizer = load_tokenizer(test::data_path("models/stories260K/tok512.model"));
  const GgufMetadata written = tokenization::write_gguf_tokenizer(tokenizer, 512, "tok512.model");
  const GgufFile published(test::data_path("models/stories260K/stories260K-f32.gguf"));
  const testing::TemporaryDirectory directory;
  written_and_read(written, directory);
  const GgufFile ours(directory / "written.gguf");
  EXPECT_EQ(ours.require_text("tokenizer.ggml.model"), "llama");
  EXPECT_EQ(ours.texts("tokenizer.ggml.tokens"), published.texts("tokenizer.ggml.tokens"));
  EXPECT_EQ(ours.numbers("tokenizer.ggml.scores"), published.numbers("tokenizer.ggml.scores"));
  EXPECT_EQ(ours.integers("tokenizer.ggml.token_type"), published.integers("tokenizer.ggml.token_type"));
  for (const char* key : {"bos", "eos", "unknown"}) {
    const std::string name = concat("tokenizer.ggml.", key, "_token_id");
    EXPECT_EQ(ours.integer(name), published.integer(name)) << name;
  }
  // The published file begins texts with <s>, which the .model alone does not say.
  EXPECT_EQ(ours.flag("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(ours.flag("tokenizer.ggml.add_space_prefix"), true);
}

TEST(GgufTokenizer, WrittenSentencePieceGivesTheSameIds) {
  for (const char* path : {"models/stories260K/tok512.model", "tokenizers/llama2", "tokenizers/mistral"}) {
    ONDOL_REQUIRE_DATA(path);
    const Tokenizer tokenizer = load_tokenizer(test::data_path(path));
    const testing::TemporaryDirectory directory;
    const Tokenizer again =
        written_and_read(tokenization::write_gguf_tokenizer(tokenizer, tokenizer.vocab_size(), path), directory);
    const std::string texts = contents(test::data_path("vectors/tokenization/llama_cpp/tests.inp"));
    ASSERT_GT(texts.size(), 1000u);
    std::istringstream lines(texts);
    constexpr EncodeOptions kPlain{.add_special_tokens = false, .parse_special = false};
    for (std::string line; std::getline(lines, line);) {
      EXPECT_EQ(again.encode(line, kPlain), tokenizer.encode(line, kPlain)) << path << ": " << line;
    }
    EXPECT_EQ(again.encode("Once upon a time"), tokenizer.encode("Once upon a time")) << path;
  }
}

TEST(GgufTokenizer, RefusesToWriteWhatTheFormatHasNoNameFor) {
  ONDOL_REQUIRE_DATA("tokenizers/t5-small");
  const Tokenizer unigram = load_tokenizer(test::data_path("tokenizers/t5-small"));
  const std::string message =
      testing::error_of([&] { tokenization::write_gguf_tokenizer(unigram, unigram.vocab_size(), "t5"); });
  EXPECT_NE(message.find("its model is \"Unigram\", not BPE (t5)"), std::string::npos) << message;
}

}  // namespace
}  // namespace ondol
