#include <ondol/data/sentences.h>

#include <cstring>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/data/token_file.h>

#include "data/byte_encoder.h"
#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using Sentences = std::vector<std::string_view>;

TEST(SplitSentences, ByLines) {
  EXPECT_EQ(split_sentences("one. two\n\n  three \r\nfour", SentenceSplit::lines),
            (Sentences{"one. two", "three", "four"}));
  EXPECT_EQ(split_sentences(" \n\t\n", SentenceSplit::lines), Sentences{});
  EXPECT_EQ(split_sentences("a\nb", SentenceSplit::none), Sentences{"a\nb"});
}

TEST(SplitSentences, ByPunctuation) {
  const auto split = [](std::string_view text) { return split_sentences(text, SentenceSplit::punctuation); };
  EXPECT_EQ(split("It rains. It pours! Does it? Yes."), (Sentences{"It rains.", "It pours!", "Does it?", "Yes."}));
  EXPECT_EQ(split("\"Go on,\" he said. \"Stop!\" She ran."),
            (Sentences{"\"Go on,\" he said.", "\"Stop!\"", "She ran."}));
  EXPECT_EQ(split("Mr. J. R. Smith paid 3.50 dollars, e.g. in cash etc. and left."),
            Sentences{"Mr. J. R. Smith paid 3.50 dollars, e.g. in cash etc. and left."});
  EXPECT_EQ(split("What?! No... Well\u2026 All right"), (Sentences{"What?!", "No...", "Well\u2026", "All right"}));
  EXPECT_EQ(split("\u3042\u3002\u3044\uFF01\u300C\u3046\u3002\u300D\u3048"),
            (Sentences{"\u3042\u3002", "\u3044\uFF01", "\u300C\u3046\u3002\u300D", "\u3048"}));
  EXPECT_EQ(split("no end\nnext line. And more"), (Sentences{"no end", "next line.", "And more"}));
}

TEST(SplitSentences, NamesOfTheWays) {
  for (const SentenceSplit split : {SentenceSplit::none, SentenceSplit::lines, SentenceSplit::punctuation}) {
    EXPECT_EQ(parse_sentence_split(to_string(split)), split);
  }
  EXPECT_THROW(parse_sentence_split("line"), UsageError);
}

TEST(PrepareTokens, WritesWhereSentencesBegin) {
  const testing::TemporaryDirectory directory;
  directory.write("a.txt", "ab\ncde\n\n \n\nf\n");
  TextEncoder encoder = testing::byte_encoder(300);
  encoder.bos_id = 299;
  const PrepareStatistics statistics = prepare_tokens(encoder, {directory / "a.txt"}, directory / "c",
                                                      {.separator = "blank_line", .sentences = SentenceSplit::lines});
  EXPECT_EQ(statistics.documents, 2);
  const std::string idx = directory.read("c.idx");
  ASSERT_EQ(idx.size(), 16u + 3 * 8 + 64);
  uint32_t version = 0;
  std::memcpy(&version, idx.data() + 8, sizeof version);
  EXPECT_EQ(version, 2u);
  uint64_t entries[3];
  std::memcpy(entries, idx.data() + 16, sizeof entries);
  constexpr uint64_t kBegins = uint64_t{1} << 63;
  EXPECT_EQ(std::vector<uint64_t>(entries, entries + 3), (std::vector<uint64_t>{kBegins | 0, 3, kBegins | 7}));

  const TokenFile file(directory / "c");
  file.verify();
  std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
  file.read(0, file.tokens(), ids.data());
  EXPECT_EQ(ids, (std::vector<int32_t>{299, 'a', 'b', 'c', 'd', 'e', 256, 299, 'f', 256}));
  EXPECT_EQ(file.documents(), 2);
  EXPECT_EQ(file.document_begin(1), 7);
  EXPECT_EQ(file.document_at(6), 0);
  EXPECT_EQ(file.sentences(), 3);
  EXPECT_EQ(file.first_sentence(1), 2);
  EXPECT_EQ(file.first_sentence(2), 3);
  EXPECT_EQ(file.sentence_begin(1), 3);
  EXPECT_EQ(file.sentence_begin(3), 10);

  prepare_tokens(encoder, {directory / "a.txt"}, directory / "plain", {.separator = "blank_line"});
  EXPECT_EQ(TokenFile(directory / "plain").sentences(), 0);
}

}  // namespace
}  // namespace ondol
