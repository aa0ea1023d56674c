// Expected values: sacreBLEU 2.6.0 (BLEU(), CHRF() with the options that are named).
#include <sstream>
#include <vector>

#include <ondol/base/error.h>
#include <ondol/base/text_reader.h>
#include <ondol/metrics/translation.h>

#include <gtest/gtest.h>

#include "support/test_data.h"

namespace ondol::metrics {
namespace {

using Lines = std::vector<std::string>;
using References = std::vector<Lines>;

Lines lines_of(const std::string& relative) {
  Lines lines;
  TextReader reader(test::data_path(relative));
  for (std::string line; reader.read_line(line);) lines.push_back(line);
  return lines;
}

/// Every line without each fourth of its words.
Lines without_fourth_words(const Lines& lines) {
  Lines result;
  for (const std::string& line : lines) {
    std::string kept;
    size_t word = 0;
    for (size_t begin = 0; begin <= line.size(); ++word) {
      const size_t end = std::min(line.find(' ', begin), line.size());
      if (word % 4 != 3) kept += (begin == 0 ? "" : " ") + line.substr(begin, end - begin);
      begin = end + 1;
    }
    result.push_back(kept);
  }
  return result;
}

References one_each(const Lines& lines) {
  References references;
  for (const std::string& line : lines) references.push_back({line});
  return references;
}

std::string tokens(const std::string& text) {
  std::string joined;
  for (const std::string& token : bleu_tokens(text)) joined += (joined.empty() ? "" : " ") + token;
  return joined;
}

TEST(Bleu, TokensAreThoseOf13a) {
  EXPECT_EQ(tokens("Hello, world! It's 3,000.50 (about 5-6%) \"x&quot;y&amp;z\" a.b,c 7-8 end-"),
            "Hello , world ! It's 3,000.50 ( about 5 - 6 % ) \" x \" y & z \" a . b , c 7 - 8 end-");
  EXPECT_EQ(tokens("\"Straße…\" kostet 1.000,50€; und? <skipped>weg -\nwort\nneu 12."),
            "\" Straße… \" kostet 1.000,50€ ; und ? weg wort neu 12 .");
  EXPECT_EQ(tokens("a..b,,c 1.a .5 5. -- 3-4-5 {x}[y]`z` "),
            "a . . b , , c 1 . a . 5 5 . -- 3 - 4 - 5 { x } [ y ] ` z `");
  EXPECT_EQ(tokens("日本。,。 1,２ x@y#z$ ~ \u00a0 end \u3000"), "日本。 , 。 1 , ２ x @ y # z $ ~ end");
}

TEST(Bleu, ShortTexts) {
  const BleuScore smoothed = bleu(Lines{"the cat sat on a mat here"}, References{{"a cat was on the mat"}});
  EXPECT_NEAR(smoothed.score, 9.820366272512825, 1e-12);
  EXPECT_EQ(bleu(Lines{"the cat"}, References{{"the cat sat"}}).score, 0.0);  // no 3-gram at all
  EXPECT_EQ(bleu(Lines{""}, References{{"the cat sat"}}).score, 0.0);
  EXPECT_EQ(bleu(Lines{}, References{}).score, 0.0);
  EXPECT_THROW(bleu(Lines{"a"}, References{}), Error);
  EXPECT_THROW(bleu(Lines{"a"}, References{{}}), Error);
}

TEST(Bleu, GermanCaptions) {
  ONDOL_REQUIRE_DATA("tasks/multi30k/val.de.gz");
  const Lines german = lines_of("tasks/multi30k/val.de.gz"), english = lines_of("tasks/multi30k/val.en.gz");
  ASSERT_EQ(german.size(), 1014u);
  const Lines shorter = without_fourth_words(german);
  const BleuScore score = bleu(shorter, one_each(german));
  EXPECT_NEAR(score.score, 29.146434188264898, 1e-9);
  EXPECT_NEAR(score.precisions[1], 74.93060952592428, 1e-9);
  EXPECT_NEAR(score.precisions[3], 6.763146582604958, 1e-9);
  EXPECT_NEAR(score.brevity_penalty, 0.7559255443421123, 1e-12);
  EXPECT_EQ(score.hypothesis_length, 10021);
  EXPECT_EQ(score.reference_length, 12825);
  EXPECT_NEAR(bleu(shorter, one_each(german), {.tokens = BleuTokens::characters}).score, 70.64160205580762, 1e-9);
  EXPECT_NEAR(bleu(shorter, one_each(german), {.tokens = BleuTokens::words}).score, 6.283387699051746, 1e-9);
  EXPECT_NEAR(bleu(english, one_each(german)).score, 0.48998146984438473, 1e-9);
  EXPECT_NEAR(bleu(english, one_each(german), {.lowercase = true}).score, 0.6461863914250902, 1e-9);
}

TEST(Bleu, SeveralReferences) {
  ONDOL_REQUIRE_DATA("tasks/multi30k/val.fr.gz");
  const Lines french = lines_of("tasks/multi30k/val.fr.gz"), english = lines_of("tasks/multi30k/val.en.gz");
  References references;
  for (size_t i = 0; i < french.size(); ++i) references.push_back({french[i], english[i]});
  const Lines shorter = without_fourth_words(french);
  const BleuScore score = bleu(shorter, references);
  EXPECT_NEAR(score.score, 29.53522926911795, 1e-9);
  EXPECT_EQ(score.reference_length, 12826);
  EXPECT_NEAR(bleu(shorter, references, {.tokens = BleuTokens::characters}).score, 83.71236804358773, 1e-9);
  EXPECT_NEAR(chrf(shorter, references), 70.10791332474614, 1e-9);
  EXPECT_NEAR(chrf(shorter, references, {.word_order = 2}), 70.17146982044758, 1e-9);
}

TEST(Chrf, GermanAndKorean) {
  ONDOL_REQUIRE_DATA("tasks/translation_ko_en/dev.ko");
  const Lines german = lines_of("tasks/multi30k/val.de.gz"), english = lines_of("tasks/multi30k/val.en.gz");
  EXPECT_NEAR(chrf(without_fourth_words(german), one_each(german)), 71.63005181806135, 1e-9);
  EXPECT_NEAR(chrf(english, one_each(german)), 15.779407051314362, 1e-9);
  EXPECT_NEAR(chrf(english, one_each(german), {.word_order = 2}), 13.228955122708323, 1e-9);
  EXPECT_NEAR(chrf(english, one_each(german), {.lowercase = true}), 17.50963428273086, 1e-9);
  const Lines korean = lines_of("tasks/translation_ko_en/dev.ko");
  EXPECT_NEAR(chrf(without_fourth_words(korean), one_each(korean)), 63.23018198235968, 1e-9);
  EXPECT_NEAR(chrf(without_fourth_words(korean), one_each(korean), {.word_order = 2}), 64.79649884992993, 1e-9);
  EXPECT_NEAR(bleu(without_fourth_words(korean), one_each(korean)).score, 32.6845597951653, 1e-9);
}

TEST(Chrf, NothingInCommon) {
  EXPECT_EQ(chrf(Lines{""}, References{{"abc"}}), 0.0);
  EXPECT_EQ(chrf(Lines{"xyz"}, References{{"abc"}}), 0.0);
  EXPECT_THROW(chrf(Lines{"a"}, References{}), Error);
  EXPECT_THROW(chrf(Lines{"a"}, References{{"a"}}, {.char_order = 0}), Error);
}

}  // namespace
}  // namespace ondol::metrics
