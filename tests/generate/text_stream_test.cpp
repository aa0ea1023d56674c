// Streaming text: characters and stop strings that lie across tokens. The tokenizer has one token for each byte.
#include <ondol/tokenizer/bpe_trainer.h>

#include <gtest/gtest.h>

#include "generate/text_stream.h"

namespace ondol {
namespace {

Tokenizer byte_tokenizer() {
  BpeTrainerOptions options;
  options.vocab_size = 257;
  options.special_tokens = {"<|end|>"};
  const std::vector<std::string> texts = {"a b"};
  return train_bpe(texts, options);
}

/// What each push gives out, and the end.
std::vector<std::string> stream(const Tokenizer& tokenizer, const std::string& text, std::vector<std::string> stop,
                                bool* stopped = nullptr) {
  TextStream stream(tokenizer, {}, std::move(stop));
  std::vector<std::string> pieces;
  for (const int32_t id : tokenizer.encode(text)) pieces.push_back(stream.push(id));
  pieces.push_back(stream.finish());
  if (stopped != nullptr) *stopped = stream.stopped();
  std::string joined;
  for (const std::string& piece : pieces) joined += piece;
  EXPECT_EQ(joined, stream.text());
  return pieces;
}

using Pieces = std::vector<std::string>;

TEST(TextStream, GivesOutWholeCharacters) {
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_EQ(stream(tokenizer, "aé한b", {}), (Pieces{"a", "", "é", "", "", "한", "b", ""}));
}

TEST(TextStream, HoldsBackTheBeginningOfAStopString) {
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_EQ(stream(tokenizer, "xENx", {"END"}), (Pieces{"x", "", "", "ENx", ""}));
  EXPECT_EQ(stream(tokenizer, "xEN", {"END"}), (Pieces{"x", "", "", "EN"}));
  EXPECT_EQ(stream(tokenizer, "aaab", {"aab"}), (Pieces{"", "", "a", "", ""}));
}

TEST(TextStream, EndsBeforeTheFirstStopString) {
  const Tokenizer tokenizer = byte_tokenizer();
  bool stopped = false;
  EXPECT_EQ(stream(tokenizer, "xENDy", {"END", "never"}, &stopped), (Pieces{"x", "", "", "", "", ""}));
  EXPECT_TRUE(stopped);
  EXPECT_EQ(stream(tokenizer, "xy한z", {"한"}, &stopped), (Pieces{"x", "y", "", "", "", "", ""}));
  EXPECT_TRUE(stopped);
  stream(tokenizer, "xEN", {"END"}, &stopped);
  EXPECT_FALSE(stopped);
}

TEST(TextStream, SpecialTokensGiveNoText) {
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_EQ(stream(tokenizer, "a<|end|>b", {}), (Pieces{"a", "", "b", ""}));
}

TEST(TextStream, IdsBeyondTheTokenizerGiveNoText) {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::vector<int32_t> prompt = {300};
  TextStream text(tokenizer, prompt, {});
  EXPECT_EQ(text.push(257), "");
  EXPECT_EQ(text.push(tokenizer.encode("a")[0]), "a");
}

}  // namespace
}  // namespace ondol
