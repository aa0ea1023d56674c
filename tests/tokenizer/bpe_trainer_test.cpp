#include <ondol/tokenizer/bpe_trainer.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "tokenizer/test_data.h"

namespace ondol {
namespace {

/// The merges of a tokenizer, by way of the file it saves.
std::vector<std::string> merges_of(const Tokenizer& tokenizer) {
  const auto directory =
      scratch_directory(std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
  tokenizer.save(directory.string());
  const auto root = nlohmann::json::parse(read_text((directory / "tokenizer.json").string()));
  std::filesystem::remove_all(directory);
  return root["model"]["merges"];
}

/// The definition: pieces as sequences, counts from scratch at every step. Ties go to the smallest pair of ids.
std::vector<std::string> naive_merges(const std::vector<std::pair<std::string, int64_t>>& words, size_t count) {
  std::vector<std::pair<std::vector<std::string>, int64_t>> sequences;
  std::vector<std::string> tokens;  // by id; single characters in order
  for (int c = 33; c < 127; ++c) tokens.push_back(std::string(1, static_cast<char>(c)));
  for (const auto& [word, weight] : words) {
    std::vector<std::string> sequence;
    for (const char c : word) sequence.push_back(std::string(1, c));
    sequences.emplace_back(sequence, weight);
  }
  const auto id = [&](const std::string& token) {
    return std::find(tokens.begin(), tokens.end(), token) - tokens.begin();
  };
  std::vector<std::string> merges;
  while (merges.size() < count) {
    std::map<std::pair<ptrdiff_t, ptrdiff_t>, int64_t> counts;
    for (const auto& [sequence, weight] : sequences) {
      for (size_t i = 0; i + 1 < sequence.size(); ++i) counts[{id(sequence[i]), id(sequence[i + 1])}] += weight;
    }
    std::pair<ptrdiff_t, ptrdiff_t> best;
    int64_t best_count = 0;
    for (const auto& [pair, pair_count] : counts) {
      if (pair_count > best_count) {
        best = pair;
        best_count = pair_count;
      }
    }
    if (best_count == 0) break;
    const std::string left = tokens[static_cast<size_t>(best.first)], right = tokens[static_cast<size_t>(best.second)];
    merges.push_back(left + " " + right);
    if (id(left + right) == static_cast<ptrdiff_t>(tokens.size())) tokens.push_back(left + right);
    for (auto& [sequence, weight] : sequences) {
      for (size_t i = 0; i + 1 < sequence.size(); ++i) {
        if (sequence[i] != left || sequence[i + 1] != right) continue;
        sequence[i] += right;
        sequence.erase(sequence.begin() + static_cast<ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

TEST(BpeTrainer, FollowsTheDefinition) {
  // Few letters, long words: many repeats, overlaps ("aaaa", "abab") and equal products ("a"+"bc", "ab"+"c").
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::pair<std::string, int64_t>> words;
    std::string text;
    for (int w = 0; w < 12; ++w) {
      std::string word;
      const size_t length = 1 + random() % 14;
      while (word.size() < length) word += static_cast<char>('a' + random() % 3);
      const int64_t weight = 1 + static_cast<int64_t>(random() % 4);
      words.emplace_back(word, weight);
      for (int64_t i = 0; i < weight; ++i) text += word + ".";
    }
    // '.' separates pieces; as a piece of one byte it has no pairs.
    BpeTrainerOptions options;
    options.vocab_size = 256 + 60;
    options.split_pattern = "[a-z]+|[.]";
    const auto merges = merges_of(train_bpe(std::vector<std::string>{text}, options));
    auto expected = naive_merges(words, 1000);
    // The trainer stops by the size of the vocabulary, the definition above by exhaustion.
    ASSERT_LE(merges.size(), expected.size());
    expected.resize(merges.size());
    EXPECT_GE(merges.size(), 20u);
    EXPECT_EQ(merges, expected);
  }
}

TEST(BpeTrainer, LimitsAreKept) {
  const std::vector<std::string> texts = {
      "low low low low low lower lower newest newest newest newest newest newest widest "
      "widest widest"};
  BpeTrainerOptions options;
  options.vocab_size = 1000;
  options.min_frequency = 6;
  options.special_tokens = {"<eos>", "<pad>"};
  options.roles = {{"eos", "<eos>"}, {"pad", "<pad>"}};
  const Tokenizer tokenizer = train_bpe(texts, options);
  // "e"+"s" 9, "es"+"t" 9, "l"+"o" 7, "lo"+"w" 7, "n"+"e" 6, …: by hand, pairs seen at least 6 times.
  const auto merges = merges_of(tokenizer);
  ASSERT_GE(merges.size(), 4u);
  EXPECT_EQ(merges[0], "e s");
  EXPECT_EQ(merges[1], "es t");
  EXPECT_EQ(merges[2], "l o");
  EXPECT_EQ(merges[3], "lo w");
  EXPECT_LT(tokenizer.vocab_size(), 300);
  EXPECT_EQ(tokenizer.special_token_id("eos"), 0);
  EXPECT_EQ(tokenizer.special_token_id("pad"), 1);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_EQ(tokenizer.token_to_id("!"), 2);

  options.min_frequency = 0;
  options.max_token_length = 3;
  const Tokenizer short_tokens = train_bpe(texts, options);
  for (int32_t id = 2; id < short_tokens.vocab_size(); ++id) {
    EXPECT_LE(short_tokens.decode(std::vector<int32_t>{id}).size(), 3u);
  }
  EXPECT_FALSE(short_tokens.token_to_id("est") == std::nullopt);
}

TEST(BpeTrainer, RoundTripsAnyBytes) {
  BpeTrainerOptions options;
  options.vocab_size = 400;
  options.special_tokens = {"<|endoftext|>"};
  const Tokenizer tokenizer =
      train_bpe(std::vector<std::string>{"the cat sat on the mat. 고양이가 앉았다. the end"}, options);
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    std::string bytes;
    const size_t length = random() % 200;
    while (bytes.size() < length) bytes += static_cast<char>(random() % (round % 2 ? 256 : 130));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes)), bytes);
  }
}

TEST(BpeTrainer, ImpossibleOptionsAreErrors) {
  const std::vector<std::string> texts = {"some text"};
  EXPECT_THROW(train_bpe(texts, {.vocab_size = 255}), UsageError);
  EXPECT_THROW(train_bpe(texts, {.vocab_size = 256, .special_tokens = {"<a>"}}), UsageError);
  EXPECT_THROW(train_bpe(texts, {.vocab_size = 300, .special_tokens = {"<a>", "<a>"}}), UsageError);
  EXPECT_THROW(train_bpe(texts, {.vocab_size = 300, .special_tokens = {""}}), UsageError);
  EXPECT_THROW(train_bpe(texts, {.vocab_size = 300, .special_tokens = {"x"}}), UsageError);
  EXPECT_THROW(train_bpe(texts, {.vocab_size = 300, .roles = {{"eos", "<eos>"}}}), UsageError);
  EXPECT_THROW(train_bpe(texts, {.vocab_size = 300, .split_pattern = "(unclosed"}), UsageError);
  EXPECT_THROW(train_bpe(std::vector<std::string>{}, {.vocab_size = 300}), UsageError);
  EXPECT_THROW(train_bpe_files({"/no/such/file"}, {.vocab_size = 300}), Error);
}

class BpeTrainerReference : public ::testing::Test {
 protected:
  void SetUp() override {
    if (data_root().empty()) GTEST_SKIP() << "skipped: ONDOL_TEST_DATA is not set";
  }
  void TearDown() override { set_num_threads(threads_); }
  int threads_ = num_threads();
};

TEST_F(BpeTrainerReference, PublishedMerges) {
  // The reference breaks ties by the lexicographically greater pair of byte strings.
  BpeTrainerOptions options;
  options.vocab_size = 500;
  options.special_tokens = {"<|endoftext|>"};
  options.tie_break = BpeTieBreak::largest_text;
  const Tokenizer tokenizer = train_bpe_files({data_path("corpora/bpe_corpus_en.txt")}, options);
  std::vector<std::string> expected;
  std::istringstream lines(read_text(data_path("tokenizers/bpe_training_reference/train-bpe-reference-merges.txt")));
  for (std::string line; std::getline(lines, line);) expected.push_back(line);
  EXPECT_EQ(expected.size(), 243u);
  EXPECT_EQ(merges_of(tokenizer), expected);
  const auto vocabulary =
      nlohmann::json::parse(read_text(data_path("tokenizers/bpe_training_reference/train-bpe-reference-vocab.json")));
  EXPECT_EQ(vocabulary.size(), 500u);
  for (const auto& [token, id] : vocabulary.items()) EXPECT_TRUE(tokenizer.token_to_id(token).has_value()) << token;
}

TEST_F(BpeTrainerReference, ThreadsAndChunksDoNotMatter) {
  const std::string text =
      read_text(data_path("corpora/moby_dick.txt")) + read_text(data_path("corpora/wagahai_ja.txt"));
  // The second spelling means the same but is not known to allow cuts: the text is one piece of work.
  const std::pair<const char*, const char*> patterns[] = {
      {"gpt2", R"((?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+))"},
      {"qwen2", R"((?:(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
                R"(|\s*[\r\n]+|\s+(?!\S)|\s+))"}};
  for (const auto& [pattern, uncut] : patterns) {
    BpeTrainerOptions options;
    options.vocab_size = 1500;
    options.split_pattern = pattern;
    set_num_threads(1);
    const auto one = merges_of(train_bpe(std::vector<std::string>{text}, options));
    set_num_threads(3);
    EXPECT_EQ(merges_of(train_bpe(std::vector<std::string>{text}, options)), one);
    options.split_pattern = uncut;
    EXPECT_EQ(merges_of(train_bpe(std::vector<std::string>{text}, options)), one);
  }
}

}  // namespace
}  // namespace ondol
