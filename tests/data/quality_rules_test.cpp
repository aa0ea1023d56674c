// Gopher rules against table A1 and appendix A.1.1 of Rae et al. 2021, C4 rules against section 2.2 of Raffel et al.
// 2020, with documents made for each threshold; repetition shares against a count by definition.
#include <ondol/data/quality_rules.h>

#include <map>

#include <gtest/gtest.h>

#include <ondol/base/error.h>
#include <ondol/base/philox.h>

namespace ondol {
namespace {

using Words = std::vector<std::string>;

std::string joined(const Words& words, const std::string& between = " ") {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

/// `count` words of four letters, none twice, "the" and "with" first.
Words different_words(size_t count) {
  Words words = {"the", "with"};
  for (size_t i = 2; i < count; ++i) {
    const char letters[] = {static_cast<char>('a' + i % 26), static_cast<char>('a' + i / 26 % 26),
                            static_cast<char>('a' + i / 676 % 26), 'x', 0};
    words.emplace_back(letters);
  }
  return words;
}

std::string quality(const std::string& text, const GopherQualityOptions& options = {}) {
  return check_gopher_quality(text, options).rule;
}

TEST(GopherQuality, CountsOfWords) {
  EXPECT_EQ(quality(""), "too_few_words");
  EXPECT_EQ(quality(joined(different_words(49))), "too_few_words");
  EXPECT_EQ(quality(joined(different_words(50))), "");
  Words many;
  for (int i = 0; i < 1000; ++i) {
    for (const std::string& word : different_words(100)) many.push_back(word);
  }
  EXPECT_EQ(quality(joined(many)), "");
  many.emplace_back("more");
  EXPECT_EQ(quality(joined(many)), "too_many_words");
  const RuleResult result = check_gopher_quality("one two", {});
  EXPECT_EQ(result.detail, "2 below 50");
}

TEST(GopherQuality, MeanWordLength) {
  // 60 words: the, with, and 58 of the given length.
  const auto of_length = [](size_t length) {
    Words words = {"the", "with"};
    for (size_t i = 0; i < 58; ++i) words.emplace_back(length, static_cast<char>('a' + i % 26));
    return joined(words);
  };
  EXPECT_EQ(quality(of_length(2)), "mean_word_length");   // 123 / 60
  EXPECT_EQ(quality(of_length(3)), "");                   // 181 / 60
  EXPECT_EQ(quality(of_length(10)), "");                  // 587 / 60
  EXPECT_EQ(quality(of_length(11)), "mean_word_length");  // 645 / 60
  // Characters count, not bytes: 58 words of six Korean syllables (18 bytes each).
  Words korean = {"the", "with"};
  for (int i = 0; i < 58; ++i) korean.emplace_back("안녕하세요들");
  EXPECT_EQ(quality(joined(korean)), "");
}

TEST(GopherQuality, SymbolsLinesLettersAndStopWords) {
  Words words = different_words(100);
  for (size_t i = 10; i < 20; ++i) words[i] = "#" + words[i];
  EXPECT_EQ(quality(joined(words)), "");  // 10 for 100 words: not above 0.1
  words[20] = "#" + words[20];
  EXPECT_EQ(quality(joined(words)), "hash_ratio");

  words = different_words(100);
  for (size_t i = 10; i < 16; ++i) words[i] += "...";
  for (size_t i = 16; i < 20; ++i) words[i] += "…";
  EXPECT_EQ(quality(joined(words)), "");
  words[20] += "…";
  EXPECT_EQ(quality(joined(words)), "ellipsis_ratio");

  const auto lines = [](size_t marked, const std::string& before, const std::string& behind) {
    Words all;
    const Words from = different_words(200);
    for (size_t i = 0; i < 20; ++i) {
      const std::string line = joined(Words(from.begin() + i * 10, from.begin() + (i + 1) * 10));
      all.push_back(i < marked ? before + line + behind : line);
    }
    return joined(all, "\n");
  };
  EXPECT_EQ(quality(lines(18, "- ", "")), "");
  EXPECT_EQ(quality(lines(19, "• ", "")), "bullet_lines");
  EXPECT_EQ(quality(lines(6, "", "...")), "");
  EXPECT_EQ(quality(lines(7, "", " …")), "ellipsis_lines");

  words = different_words(100);
  for (size_t i = 10; i < 30; ++i) words[i] = "1234";
  EXPECT_EQ(quality(joined(words)), "");
  words[30] = "12.5";
  EXPECT_EQ(quality(joined(words)), "alphabetic_words");

  words = different_words(100);
  words[1] = "the";
  EXPECT_EQ(quality(joined(words)), "stop_words");  // one word twice is one
  words[1] = "\"That,\"";
  EXPECT_EQ(quality(joined(words)), "");
  EXPECT_EQ(quality(joined(different_words(60)), {.min_stop_words = 3}), "stop_words");
  EXPECT_EQ(quality(joined(different_words(60)), {.min_stop_words = 1, .stop_words = {"und"}}), "stop_words");
}

/// The shares by definition: every pair of positions is compared.
RepetitionShares shares_by_definition(const Words& words) {
  RepetitionShares shares;
  double all = 0;
  for (const std::string& word : words) all += static_cast<double>(word.size());
  for (size_t n = 2; n <= 10 && n <= words.size(); ++n) {
    const auto run = [&](size_t i) { return Words(words.begin() + i, words.begin() + i + n); };
    std::map<Words, int> counts;
    for (size_t i = 0; i + n <= words.size(); ++i) ++counts[run(i)];
    int most = 2;
    double top = 0, duplicate = 0;
    for (const auto& [ngram, count] : counts) {
      const double size = static_cast<double>(joined(ngram, "").size()) * count;
      if (count > most || (count == most && size > top)) top = size;
      most = std::max(most, count);
    }
    std::vector<bool> marked(words.size());
    for (size_t i = 0; i + n <= words.size(); ++i) {
      for (size_t j = 0; counts[run(i)] > 1 && j < n; ++j) marked[i + j] = true;
    }
    for (size_t i = 0; i < words.size(); ++i) duplicate += marked[i] ? static_cast<double>(words[i].size()) : 0;
    if (n <= 4) {
      shares.top_ngram_characters[n - 2] = std::min(1.0, top / all);
    } else {
      shares.duplicate_ngram_characters[n - 5] = duplicate / all;
    }
  }
  return shares;
}

TEST(GopherRepetition, NgramSharesAreThoseOfTheDefinition) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    Words words;
    const size_t length = seed < 12 ? seed : 40 + seed;
    for (size_t i = 0; i < length; ++i) {
      const uint32_t value = philox_word({seed, 1, 0}, i);
      // Few words, and now and then a passage once more, so that long n-grams repeat too.
      if (value % 8 == 0 && i > 20) {
        words.push_back(words[i - 20]);
        for (size_t j = 1; j < 11 && words.size() < length; ++j) words.push_back(words[words.size() - 20]);
        i = words.size() - 1;
      } else {
        words.emplace_back(1 + value / 8 % 5, static_cast<char>('a' + value / 64 % (2 + seed % 9)));
      }
    }
    const RepetitionShares got = repetition_shares(joined(words)), expected = shares_by_definition(words);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(got.top_ngram_characters[i], expected.top_ngram_characters[i], 1e-12) << seed << " " << i;
    }
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_NEAR(got.duplicate_ngram_characters[i], expected.duplicate_ngram_characters[i], 1e-12) << seed << " " << i;
    }
  }
}

TEST(GopherRepetition, LinesAndParagraphs) {
  // Ten lines, of which two and then four repeat an earlier one: 20 % and 40 %.
  const auto lines = [](int copies) {
    std::string text;
    for (int i = 0; i < 10; ++i) text += concat(i < 10 - copies ? i : 0, " line\n");
    return repetition_shares(text);
  };
  EXPECT_DOUBLE_EQ(lines(2).duplicate_lines, 0.2);
  EXPECT_DOUBLE_EQ(lines(4).duplicate_lines, 0.4);
  EXPECT_DOUBLE_EQ(lines(4).duplicate_line_characters, 0.4);
  EXPECT_DOUBLE_EQ(lines(4).duplicate_paragraphs, 0);
  const RepetitionShares shares = repetition_shares("long one\n\nab\n\n \nab\n\n\ncd");
  EXPECT_DOUBLE_EQ(shares.duplicate_paragraphs, 0.25);
  EXPECT_DOUBLE_EQ(shares.duplicate_paragraph_characters, 2.0 / 14);
  EXPECT_DOUBLE_EQ(repetition_shares("").duplicate_lines, 0);
}

TEST(GopherRepetition, EachThresholdOfTheTableDrops) {
  EXPECT_TRUE(check_gopher_repetition(joined(different_words(100)), {}).keep());
  // A phrase of n words among others, often enough to pass the limit for its own length only.
  const auto phrases = [](size_t n, int copies, size_t others) {
    const Words all = different_words(400);
    Words words;
    size_t next = 40;
    for (int c = 0; c < copies; ++c) {
      words.insert(words.end(), all.begin() + 10, all.begin() + 10 + n);
      words.insert(words.end(), all.begin() + next, all.begin() + next + others);
      next += others;
    }
    return joined(words);
  };
  EXPECT_EQ(check_gopher_repetition(phrases(2, 10, 7), {}).rule, "top_2gram");   // 2 / 9
  EXPECT_TRUE(check_gopher_repetition(phrases(2, 10, 9), {}).keep());            // 2 / 11
  EXPECT_EQ(check_gopher_repetition(phrases(3, 10, 13), {}).rule, "top_3gram");  // 3 / 16, and 2 / 16
  EXPECT_EQ(check_gopher_repetition(phrases(4, 8, 20), {}).rule, "top_4gram");   // 4 / 24
  EXPECT_EQ(check_gopher_repetition(phrases(5, 2, 28), {}).rule, "duplicate_5grams");
  EXPECT_EQ(check_gopher_repetition(phrases(9, 2, 70), {}).rule, "duplicate_9grams");    // 9 / 79 = 0.114
  EXPECT_EQ(check_gopher_repetition(phrases(10, 2, 84), {}).rule, "duplicate_10grams");  // 10 / 94
  EXPECT_TRUE(check_gopher_repetition(phrases(10, 2, 92), {}).keep());
}

constexpr const char* kSentences =
    "The first sentence is here. A second one follows it! Is there a third one?\n"
    "He said \"there is a fourth one.\"\nAnd the fifth ends it all.";

std::string c4(const std::string& text, const C4Options& options = {}, C4Changes* changes = nullptr) {
  std::string changed = text;
  const RuleResult result = C4Rules(options).apply(changed, changes);
  return result.keep() ? changed : "! " + result.rule;
}

TEST(C4, DocumentsThatGo) {
  EXPECT_EQ(c4(kSentences), kSentences);
  EXPECT_EQ(c4(concat(kSentences, " { }")), "! curly_bracket");
  EXPECT_EQ(c4(concat(kSentences, " Lorem Ipsum dolor sit amet.")), "! lorem_ipsum");
  EXPECT_EQ(c4("Only one sentence is here.\nAnd here is one more."), "! too_few_sentences");
  EXPECT_EQ(c4("no end at all"), "! too_few_sentences");
  EXPECT_EQ(c4("", {.min_sentences = 0}), "! too_few_sentences");
  EXPECT_EQ(c4(kSentences, {.bad_words = {"sixth", "ends it"}}), "! bad_word");
  EXPECT_EQ(c4(kSentences, {.bad_words = {"end", "it ends", "irst"}}), kSentences);
  EXPECT_EQ(c4("이것은 첫째 문장이다. 둘째 문장도 있다.\n셋째 문장은 짧다. 넷째 문장이다.\n다섯째 문장으로 끝난다."),
            "이것은 첫째 문장이다. 둘째 문장도 있다.\n셋째 문장은 짧다. 넷째 문장이다.\n다섯째 문장으로 끝난다.");
}

TEST(C4, LinesThatGo) {
  C4Changes changes;
  const std::string text = concat(kSentences,
                                  "\nHome | About | Contact\nToo short.\nPlease enable Javascript in your browser.\n"
                                  "This site uses cookies to work.\nIt goes on and on...\n",
                                  std::string(1001, 'w'), " is a long word.\nRome was founded[3] long ago.[edit]\n");
  EXPECT_EQ(c4(text, {}, &changes), concat(kSentences, "\nRome was founded long ago."));
  EXPECT_EQ(changes.terminal_punctuation, 2);
  EXPECT_EQ(changes.short_line, 1);
  EXPECT_EQ(changes.javascript, 1);
  EXPECT_EQ(changes.policy, 1);
  EXPECT_EQ(changes.long_word, 1);
  EXPECT_EQ(changes.citations, 1);
}

}  // namespace
}  // namespace ondol
