// Tokenizers of GGUF files against the token ids that llama.cpp publishes for its own vocabularies.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include <gtest/gtest.h>

#include <ondol/tokenizer/tokenizer.h>

#include "support/error_of.h"
#include "support/gguf_bytes.h"
#include "support/temporary_directory.h"
#include "support/test_data.h"

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

}  // namespace
}  // namespace ondol
