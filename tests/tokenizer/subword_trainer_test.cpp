// Training of WordPiece and Unigram tokenizers.
#include <ondol/tokenizer/unigram_trainer.h>
#include <ondol/tokenizer/wordpiece_trainer.h>

#include <cmath>
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <ondol/base/error.h>
#include <ondol/base/parallel.h>

#include "tokenizer/piece_counter.h"
#include "tokenizer/test_data.h"
#include "tokenizer/tokenizer_files.h"
#include "tokenizer/unigram_learner.h"

namespace ondol {
namespace {

using Ids = std::vector<int32_t>;

std::function<std::optional<std::string>()> texts_of(std::vector<std::string> texts) {
  return [texts = std::move(texts), next = size_t{0}]() mutable -> std::optional<std::string> {
    return next < texts.size() ? std::optional(texts[next++]) : std::nullopt;
  };
}

std::vector<std::string> sample() {
  std::vector<std::string> texts;
  for (int i = 0; i < 30; ++i) {
    texts.push_back("the cat sat on the mat and the dog sat on the log, number " + std::to_string(i));
    texts.push_back("low lower lowest, new newer newest, wide wider widest");
    texts.push_back("나는 학교에 간다. 너는 집에 간다. \u00c9t\u00e9 \u00e9t\u00e9");
  }
  return texts;
}

TEST(WordPieceTrainer, MergesTheMostFrequentPairs) {
  // By hand: "ab" 3 times and "abc" twice give a+##b (5), then ab+##c (2).
  const Tokenizer tokenizer =
      train_wordpiece(texts_of({"ab ab ab abc abc"}), {.vocab_size = 11, .special_tokens = {"[X]"}});
  std::vector<std::string> tokens;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) tokens.push_back(tokenizer.id_to_token(id));
  const std::vector<std::string> head = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[X]",
                                         "a",     "b",     "c",     "##b",   "##c"};
  EXPECT_EQ(tokens, head);
  const Tokenizer more = train_wordpiece(texts_of({"ab ab ab abc abc"}), {.vocab_size = 100});
  EXPECT_EQ(more.vocab_size(), 12);
  EXPECT_EQ(more.id_to_token(10), "ab");
  EXPECT_EQ(more.id_to_token(11), "abc");
  EXPECT_EQ(more.encode("ABC abz"), (Ids{2, 11, 1, 3}));
}

TEST(WordPieceTrainer, IsDeterministicAndComesBackFromFiles) {
  const int before = num_threads();
  std::vector<std::string> written;
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    const Tokenizer tokenizer = train_wordpiece(texts_of(sample()), {.vocab_size = 120});
    written.push_back(tokenization::write_tokenizer_json(tokenizer.impl()));
  }
  set_num_threads(before);
  EXPECT_EQ(written[0], written[1]);
  const Tokenizer tokenizer = train_wordpiece(texts_of(sample()), {.vocab_size = 120});
  const auto directory = scratch_directory("wordpiece_trained");
  tokenizer.save(directory.string());
  const std::string text = "The LOWEST dog sat on 학교 été";
  EXPECT_EQ(load_tokenizer(directory.string()).encode(text), tokenizer.encode(text));
  EXPECT_EQ(load_tokenizer((directory / "vocab.txt").string()).encode(text), tokenizer.encode(text));
  std::filesystem::remove_all(directory);
}

TEST(WordPieceTrainer, ImpossibleOptionsAreErrors) {
  EXPECT_THROW(train_wordpiece(texts_of({"abc"}), {.vocab_size = 6}), UsageError);
  EXPECT_THROW(train_wordpiece(texts_of({" \n"}), {.vocab_size = 100}), UsageError);
  EXPECT_THROW(train_wordpiece(texts_of({"abc"}), {.vocab_size = -1}), UsageError);
}

tokenization::PieceCounts counted(const std::vector<std::pair<std::string, int>>& words) {
  tokenization::PieceCounts counts;
  for (const auto& [word, count] : words) {
    for (int i = 0; i < count; ++i) counts.piece(word);
  }
  return counts;
}

TEST(UnigramTrainer, CandidatesAreTheRepeatedSubstrings) {
  // Counted by hand: of the substrings with at least two characters, those that no longer one with the same count
  // contains at the same places to the right.
  const auto words = counted({{"abab", 1}, {"abc", 2}});
  const tokenization::UnigramLimits limits{100, 16, 1000, 1.0};
  const auto characters = tokenization::required_characters(words, 1.0);
  std::map<std::string, double> found;
  for (const auto& piece : tokenization::candidate_pieces(words, limits, characters)) found[piece.text] = piece.score;
  const std::map<std::string, double> expected = {{"a", 4}, {"b", 4}, {"c", 2}, {"ab", 8}, {"abc", 6}, {"bc", 4}};
  EXPECT_EQ(found, expected);
}

/// The log-likelihood of a word: the logarithm of the sum over all ways to cut it, by trying them all.
double likelihood(const std::map<std::string, double>& scores, const std::string& word) {
  std::vector<double> sums(word.size() + 1, 0);
  sums[0] = 1;
  for (size_t end = 1; end <= word.size(); ++end) {
    for (size_t begin = 0; begin < end; ++begin) {
      const auto found = scores.find(word.substr(begin, end - begin));
      if (found != scores.end()) sums[end] += sums[begin] * std::exp(found->second);
    }
  }
  return std::log(sums[word.size()]);
}

TEST(UnigramTrainer, LearntPiecesExplainTheCorpusBetterThanCharacters) {
  const std::vector<std::pair<std::string, int>> corpus = {{"lowest", 40}, {"newest", 60}, {"widest", 30},
                                                           {"low", 50},    {"newer", 20},  {"wider", 10}};
  const auto words = counted(corpus);
  const auto total = [&](int64_t size) {
    std::map<std::string, double> scores;
    double sum = 0;
    for (const auto& piece : tokenization::learn_unigram(words, {size, 16, 1000, 1.0})) {
      scores[piece.text] = piece.score;
      sum += std::exp(piece.score);
    }
    EXPECT_LE(static_cast<int64_t>(scores.size()), size);
    EXPECT_LT(sum, 1.05) << "no probabilities";
    double result = 0;
    for (const auto& [word, count] : corpus) result += count * likelihood(scores, word);
    EXPECT_TRUE(std::isfinite(result)) << "a character is missing";
    return result;
  };
  const double characters = total(10), some = total(14), many = total(20);
  EXPECT_GT(some, characters);
  EXPECT_GT(many, some);
}

TEST(UnigramTrainer, IsDeterministicAndLossless) {
  const int before = num_threads();
  std::vector<std::string> written;
  UnigramTrainerOptions options;
  options.vocab_size = 360;
  options.roles = {{"eos", "</s>"}};
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    written.push_back(tokenization::write_tokenizer_json(train_unigram(texts_of(sample()), options).impl()));
  }
  set_num_threads(before);
  EXPECT_EQ(written[0], written[1]);
  const Tokenizer tokenizer = train_unigram(texts_of(sample()), options);
  EXPECT_EQ(tokenizer.special_token_id("eos"), 1);
  EXPECT_EQ(tokenizer.special_token_id("unk"), 0);
  const Tokenizer again = tokenizer_from_json(written[0]);
  for (const std::string text : {"the lowest dog", "\xed\x95\x9c\xea\xb5\xad  \n x <0x0A>", "日本", "\xff\xfe!"}) {
    const Ids ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_EQ(again.encode(text), ids);
  }
  EXPECT_LT(tokenizer.encode("the cat sat on the mat").size(), 8u);
}

TEST(UnigramTrainer, WithoutByteFallbackTheRestIsUnknown) {
  UnigramTrainerOptions options;
  options.vocab_size = 60;
  options.byte_fallback = false;
  const Tokenizer tokenizer = train_unigram(texts_of({"aaab abab aab bba ab ab ab"}), options);
  EXPECT_EQ(tokenizer.encode("\u65e5"), (Ids{*tokenizer.token_to_id("\u2581"), 0}));
}

TEST(UnigramTrainer, ImpossibleOptionsAreErrors) {
  EXPECT_THROW(train_unigram(texts_of({"abc"}), {.vocab_size = 258}), UsageError);
  EXPECT_THROW(train_unigram(texts_of({}), {.vocab_size = 1000}), UsageError);
  EXPECT_THROW(train_unigram(texts_of({"a"}), {.vocab_size = 1000, .max_piece_characters = 0}), UsageError);
  EXPECT_THROW(train_unigram(texts_of({"a"}), {.vocab_size = 1000, .character_coverage = 0}), UsageError);
}

}  // namespace
}  // namespace ondol
