// Published and reference encodings of byte-level BPE tokenizers. Every file's cases are counted, so that an empty file
// fails.
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

Tokenizer qwen3() {
  return tokenizer_from_json(read_gzip(data_path("tokenizers/qwen3/tokenizer.json.gz")),
                             read_text(data_path("tokenizers/qwen3/tokenizer_config.json")));
}

class TokenizerKnownAnswers : public ::testing::Test {
 protected:
  void SetUp() override {
    if (data_root().empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  }
};

TEST_F(TokenizerKnownAnswers, GoldenGpt2) { check_golden(load("gpt2"), "hf_gpt2", kParsed); }
TEST_F(TokenizerKnownAnswers, GoldenPhi2) { check_golden(load("phi-2"), "hf_phi-2", kParsed); }
TEST_F(TokenizerKnownAnswers, GoldenRoberta) { check_golden(load("roberta-base"), "hf_roberta-base", kParsed); }
TEST_F(TokenizerKnownAnswers, GoldenQwen3) { check_golden(qwen3(), "hf_qwen3", kParsed); }
TEST_F(TokenizerKnownAnswers, TiktokenGpt2) { check_golden(load("gpt2/gpt2.tiktoken"), "tiktoken_gpt2", kPlain); }
TEST_F(TokenizerKnownAnswers, TiktokenCl100k) { check_golden(load("cl100k_base"), "tiktoken_cl100k_base", kPlain); }
TEST_F(TokenizerKnownAnswers, TiktokenLlama3) { check_golden(load("llama3"), "tiktoken_llama3", kPlain); }

TEST_F(TokenizerKnownAnswers, TheGeneralRegexPathAgreesWithTheScanners) {
  // The same expressions with a group around, which no scanner recognises.
  const std::pair<std::string, std::string> cases[] = {
      {"cl100k_base/cl100k_base.tiktoken", R"((?:(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
                                           R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+))"},
      {"gpt2/gpt2.tiktoken", R"((?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+))"}};
  for (const auto& [file, pattern] : cases) {
    const Tokenizer general = load_tokenizer(data_path("tokenizers/" + file), {.split_pattern = pattern});
    check_golden(general, file.starts_with("gpt2") ? "tiktoken_gpt2" : "tiktoken_cl100k_base", kPlain);
    const Tokenizer fast = load(file);
    for (const char* corpus : {"moby_dick.txt", "wagahai_ja.txt", "sample_text_multilingual.txt", "german_de.txt"}) {
      const std::string text = read_text(data_path(std::string("corpora/") + corpus));
      EXPECT_EQ(fast.encode(text, kPlain), general.encode(text, kPlain)) << corpus;
    }
  }
}

TEST_F(TokenizerKnownAnswers, OtherFormsOfTheSameVocabulary) {
  // OpenAI's encoder.json + vocab.bpe and RoBERTa's vocab.json + merges.txt against the tokenizer.json goldens.
  const auto directory = scratch_directory("tokenizer_forms");
  for (const auto& [name, files] : {std::pair("gpt2", std::vector<std::string>{"encoder.json", "vocab.bpe"}),
                                    std::pair("roberta-base", std::vector<std::string>{"vocab.json", "merges.txt"})}) {
    std::filesystem::remove_all(directory);
    std::filesystem::create_directories(directory);
    for (const std::string& file : files) {
      std::filesystem::copy_file(data_path(std::string("tokenizers/") + name + "/" + file), directory / file);
    }
    check_golden(load_tokenizer(directory.string()), std::string("hf_") + name, kParsed);
  }
  std::filesystem::remove_all(directory);
}

TEST_F(TokenizerKnownAnswers, SavedTokenizersGiveTheSame) {
  const auto directory = (scratch_directory("tokenizer_saved")).string();
  const auto check = [&](const Tokenizer& tokenizer, const std::string& golden, EncodeOptions options) {
    tokenizer.save(directory);
    const Tokenizer again = load_tokenizer(directory);
    check_golden(again, golden, options);
    EXPECT_EQ(again.vocab_size(), tokenizer.vocab_size());
    EXPECT_EQ(again.chat_template(), tokenizer.chat_template());
    EXPECT_EQ(again.special_token("eos"), tokenizer.special_token("eos"));
  };
  check(qwen3(), "hf_qwen3", kParsed);
  check(load("roberta-base"), "hf_roberta-base", kParsed);
  check(load("phi-2"), "hf_phi-2", kParsed);
  check(load("llama3"), "tiktoken_llama3", kPlain);
  check(load("cl100k_base"), "tiktoken_cl100k_base", kPlain);
  std::filesystem::remove_all(directory);
}

TEST_F(TokenizerKnownAnswers, LlamaCppGpt2) { EXPECT_EQ(check_llama_cpp(load("gpt2"), "gpt-2"), 46u); }
TEST_F(TokenizerKnownAnswers, LlamaCppLlama3) { EXPECT_EQ(check_llama_cpp(load("llama3"), "llama-bpe"), 46u); }
TEST_F(TokenizerKnownAnswers, LlamaCppQwen2) { EXPECT_EQ(check_llama_cpp(qwen3(), "qwen2"), 46u); }
TEST_F(TokenizerKnownAnswers, LlamaCppRoberta) { EXPECT_EQ(check_llama_cpp(load("roberta-base"), "roberta-bpe"), 46u); }

/// The vocabulary of a GGUF file; control tokens are special, user-defined ones are recognised in the text.
ByteLevelBpeParts parts_from_gguf(const json& metadata) {
  ByteLevelBpeParts parts;
  parts.tokens = metadata["tokenizer.ggml.tokens"];
  parts.merges = metadata["tokenizer.ggml.merges"];
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    const int type = metadata["tokenizer.ggml.token_type"][id];
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = parts.tokens[id];
    token.special = type == 3;
    if (type == 3 || type == 4) parts.added_tokens.push_back(token);
  }
  return parts;
}

TEST_F(TokenizerKnownAnswers, LlamaCppDeepseekCoder) {
  ByteLevelBpeParts parts =
      parts_from_gguf(GgufMetadata::read(data_path("tokenizers/gguf/ggml-vocab-deepseek-coder.gguf")));
  parts.split_patterns = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", R"(\p{N})"};
  EXPECT_EQ(check_llama_cpp(make_byte_level_bpe_tokenizer(parts, "deepseek-coder"), "deepseek-coder"), 46u);
}

TEST_F(TokenizerKnownAnswers, SmolLm2) {
  ByteLevelBpeParts parts =
      parts_from_gguf(GgufMetadata::read(data_path("models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf")));
  parts.split_patterns = {"gpt2"};
  parts.individual_digits = true;
  const Tokenizer tokenizer = make_byte_level_bpe_tokenizer(parts, "smollm2");
  const json reference = json::parse(read_text(data_path("vectors/smollm2/reference.json")));
  int count = 0;
  for (const json& entry : reference["tokenization"]) {
    const std::string text = entry["text"];
    EXPECT_EQ(tokenizer.encode(text), entry["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer.decode(entry["ids"].get<Ids>()), text);
    ++count;
  }
  EXPECT_EQ(count, 10);
}

TEST_F(TokenizerKnownAnswers, SmallPublished) {
  const json cases =
      json::parse(read_text(data_path("vectors/tokenization/small_published.json")))["tiktoken"]["cases"];
  int count = 0;
  for (const auto& [name, file] : {std::pair("gpt2", "gpt2/gpt2.tiktoken"), std::pair("cl100k_base", "cl100k_base")}) {
    const Tokenizer tokenizer = load(file);
    for (const json& entry : cases[name]) {
      const std::string text = entry[0];
      EXPECT_EQ(tokenizer.encode(text, entry.size() > 2 ? kParsed : kPlain), entry[1].get<Ids>()) << text;
      EXPECT_EQ(tokenizer.decode(entry[1].get<Ids>()), text);
      ++count;
    }
  }
  EXPECT_EQ(count, 4);
}

TEST_F(TokenizerKnownAnswers, SwiftTransformers) {
  const json entry =
      json::parse(read_text(data_path("vectors/tokenization/swift_transformers/gpt2_encoded_tokens.json")));
  const Tokenizer tokenizer = load("gpt2");
  const Ids ids = tokenizer.encode(entry["text"].get<std::string>());
  EXPECT_EQ(ids, entry["token_ids"].get<Ids>());
  EXPECT_EQ(tokenizer.decode(ids), entry["decoded_text"].get<std::string>());
}

TEST_F(TokenizerKnownAnswers, TransformersJs) {
  const json models = json::parse(read_text(data_path("vectors/tokenization/transformers_js.json")));
  const std::map<std::string, Tokenizer> tokenizers = {{"Xenova/gpt2", load("gpt2")},
                                                       {"Xenova/gpt-4", load("cl100k_base")},
                                                       {"Xenova/llama3-tokenizer-new", load("llama3")},
                                                       {"Xenova/Qwen1.5-0.5B-Chat", qwen3()},
                                                       {"Xenova/all-distilroberta-v1", load("roberta-base")}};
  int count = 0;
  for (const auto& [name, tokenizer] : tokenizers) {
    for (const auto& [label, entry] : models.at(name)["cases"].items()) {
      SCOPED_TRACE(name + " " + label);
      const std::string text = entry["text"];
      const Ids expected = entry["ids"];
      Ids ids;
      if (entry.contains("text_pair") && !entry["text_pair"].is_null()) {
        ids = tokenizer.encode_pair(text, entry["text_pair"].get<std::string>()).ids;
      } else {
        ids = tokenizer.encode(text);
      }
      EXPECT_EQ(ids, expected);
      const std::string decoded = tokenizer.decode(expected);
      const bool cleaned = name == "Xenova/gpt2" || name == "Xenova/llama3-tokenizer-new";
      EXPECT_TRUE(same_text(cleaned ? clean_up_spaces(decoded) : decoded, entry["decoded"])) << decoded;
      ++count;
    }
  }
  EXPECT_GE(count, 60);
}

}  // namespace
}  // namespace ondol
