#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tokenizer/split_scanner.h"
#include "tokenizer/unicode.h"
#include "tokenizer/unicode_normalization.h"

namespace ondol::tokenization {
namespace {

std::string normalized(const std::string& text, NormalizationForm form) {
  std::string out;
  tokenization::TextWriter writer(out, nullptr);
  normalize_unicode(text, form, writer);
  return out;
}

// Examples of UAX #15 and of the character charts.
TEST(Unicode, CompatibilityForms) {
  EXPECT_EQ(normalized("ﬁ ² ½ Ａ ㎏ …", NormalizationForm::nfkc), "fi 2 1⁄2 A kg ...");
  EXPECT_EQ(normalized("\u1e9b\u0323", NormalizationForm::nfkc), "\u1e69");
  EXPECT_EQ(normalized("\u1e9b\u0323", NormalizationForm::nfkd), "s\u0323\u0307");
  EXPECT_EQ(normalized("\uffbc", NormalizationForm::nfkd), "\u1110");
  EXPECT_EQ(normalized("\u00a0", NormalizationForm::nfc), "\u00a0");
  EXPECT_EQ(normalized("한", NormalizationForm::nfkd), "\u1112\u1161\u11ab");
}

TEST(Unicode, LowerCase) {
  EXPECT_EQ(to_lowercase('A'), 'a');
  EXPECT_EQ(to_lowercase('['), '[');
  EXPECT_EQ(to_lowercase(0xc4), 0xe4u);    // Ä
  EXPECT_EQ(to_lowercase(0x3a3), 0x3c3u);  // Σ
  EXPECT_EQ(to_lowercase(0x130), 'i');     // İ
  EXPECT_EQ(to_lowercase(0x1e9e), 0xdfu);  // ẞ
  EXPECT_EQ(to_lowercase(0x139), 0x13au);  // Ĺ
  EXPECT_EQ(to_lowercase(0x13a), 0x13au);
  EXPECT_EQ(to_lowercase(0x2c62), 0x26bu);  // Ɫ
  EXPECT_EQ(to_lowercase(0x10400), 0x10428u);
  EXPECT_EQ(to_lowercase(0xac00), 0xac00u);
}

TEST(Unicode, AgeOfMarksAndPunctuation) {
  EXPECT_TRUE(assigned_by_unicode(0x301, 8));
  EXPECT_FALSE(assigned_by_unicode(0x8d4, 8));  // Unicode 9
  EXPECT_TRUE(assigned_by_unicode(0x8d4, 9));
  EXPECT_FALSE(assigned_by_unicode(0x2e52, 9));  // Unicode 14
}

TEST(Unicode, Utf8) {
  const auto length_of = [](const std::string& bytes) { return decode_code_point(bytes, 0).length; };
  const auto value_of = [](const std::string& bytes) { return decode_code_point(bytes, 0).value; };
  EXPECT_EQ(value_of("\u00e9"), 0xe9u);
  EXPECT_EQ(value_of("\ud55c"), 0xd55cu);
  EXPECT_EQ(value_of("\U0010ffff"), 0x10ffffu);
  EXPECT_EQ(length_of("\U0001f600"), 4u);
  // Overlong forms, surrogates, beyond the last code point, lone and missing continuation bytes.
  for (const char* bad : {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80", "\xe3\x81", "\xff"}) {
    EXPECT_EQ(value_of(bad), kInvalidCodePoint);
    EXPECT_EQ(length_of(bad), 1u);
  }
  for (uint32_t c = 0; c < 0x110000; c += 7) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string bytes;
    append_utf8(c, bytes);
    EXPECT_EQ(value_of(bytes), c);
  }
}

TEST(Unicode, Categories) {
  // The Unicode Standard 15.0, chapter 4 and DerivedGeneralCategory.txt.
  const std::pair<uint32_t, Category> known[] = {
      {'A', Category::Lu},     {'a', Category::Ll},    {0x1c5, Category::Lt},   {0x2b0, Category::Lm},
      {0xd55c, Category::Lo},  {0x301, Category::Mn},  {0x903, Category::Mc},   {0x20dd, Category::Me},
      {0x663, Category::Nd},   {0x2167, Category::Nl}, {0xbd, Category::No},    {0x3000, Category::Zs},
      {0x2028, Category::Zl},  {0x2029, Category::Zp}, {0x7f, Category::Cc},    {0x200d, Category::Cf},
      {0xe000, Category::Co},  {0xd800, Category::Cs}, {0x378, Category::Cn},   {'_', Category::Pc},
      {0x2014, Category::Pd},  {'(', Category::Ps},    {')', Category::Pe},     {0xab, Category::Pi},
      {0xbb, Category::Pf},    {'!', Category::Po},    {'+', Category::Sm},     {'$', Category::Sc},
      {'^', Category::Sk},     {0xa9, Category::So},   {0x2ebf0, Category::Cn}, {0x323af, Category::Lo},
      {0x10ffff, Category::Cn}};
  for (const auto& [code_point, category] : known) EXPECT_EQ(unicode_category(code_point), category) << code_point;
  // Totals of DerivedGeneralCategory.txt and PropList.txt (White_Space), release 15.0.
  // has 25.
  int white_space = 0;
  std::map<Category, int> counts;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    white_space += is_white_space(c);
    ++counts[unicode_category(c)];
    const CharClass expected = c == '\n' || c == '\r'           ? CharClass::newline
                               : is_white_space(c)              ? CharClass::space
                               : is_letter(unicode_category(c)) ? CharClass::letter
                               : is_number(unicode_category(c)) ? CharClass::number
                                                                : CharClass::other;
    ASSERT_EQ(char_classes()[c], expected) << c;
  }
  EXPECT_EQ(white_space, 25);
  EXPECT_EQ(counts[Category::Nd], 680);
  EXPECT_EQ(counts[Category::Cc], 65);
  EXPECT_EQ(counts[Category::Cs], 2048);
  EXPECT_EQ(counts[Category::Co], 137468);
  EXPECT_EQ(counts[Category::Zs], 17);
}

TEST(Unicode, NormalizationForms) {
  struct Case {
    const char *source, *nfc, *nfd;
  };
  // From UAX #15 (figures 3 to 6) and NormalizationTest.txt.
  const Case cases[] = {{"\u212b", "\u00c5", "A\u030a"},                         // Angstrom sign, a singleton
                        {"\u2126", "\u03a9", "\u03a9"},                          // Ohm sign
                        {"\u1e9b\u0323", "\u1e9b\u0323", "\u017f\u0323\u0307"},  // reordering
                        {"\u1e0b\u0323", "\u1e0d\u0307", "d\u0323\u0307"},       // composes with the lower mark first
                        {"q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307"},     // no composite
                        {"\u0958", "\u0915\u093c", "\u0915\u093c"},              // composition exclusion
                        {"\ud55c\uae00", "\ud55c\uae00", "\u1112\u1161\u11ab\u1100\u1173\u11af"},  // Hangul
                        {"\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
                        {"\uac00\u11a8", "\uac01", "\u1100\u1161\u11a8"},
                        {"\u0344", "\u0308\u0301", "\u0308\u0301"},  // non-starter decomposition
                        {"\u304b\u3099", "\u304c", "\u304b\u3099"},
                        {"\U0001d15e", "\U0001d157\U0001d165", "\U0001d157\U0001d165"},
                        {"\uf900", "\u8c48", "\u8c48"},
                        {"a\u0315\u0300\u05ae\u0300b", "\u00e0\u05ae\u0300\u0315b", "a\u05ae\u0300\u0300\u0315b"}};
  for (const Case& c : cases) {
    EXPECT_EQ(normalized(c.source, NormalizationForm::nfc), c.nfc) << c.source;
    EXPECT_EQ(normalized(c.source, NormalizationForm::nfd), c.nfd) << c.source;
    EXPECT_EQ(normalized(c.nfd, NormalizationForm::nfc), c.nfc) << c.source;
    EXPECT_EQ(normalized(c.nfc, NormalizationForm::nfd), c.nfd) << c.source;
    for (const NormalizationForm form : {NormalizationForm::nfc, NormalizationForm::nfd}) {
      if (is_surely_normalized(c.source, form)) {
        EXPECT_EQ(normalized(c.source, form), c.source);
      }
    }
  }
  EXPECT_TRUE(is_surely_normalized("plain text \u00e9 \ud55c \u4e2d", NormalizationForm::nfc));
  EXPECT_FALSE(is_surely_normalized("e\u0301", NormalizationForm::nfc));
  EXPECT_EQ(normalized("\xff"
                       "e\xcc\x81\xfe\xed\xa0",
                       NormalizationForm::nfc),
            "\xff\u00e9\xfe\xed\xa0");
}

class Collector : public PieceSink {
 public:
  void piece(std::string_view text) override { pieces.emplace_back(text); }
  std::vector<std::string> pieces;
};

std::vector<std::string> pieces(SplitPattern pattern, const std::string& text) {
  Collector collector;
  scan_pieces(pattern, text, collector);
  return collector.pieces;
}

using Pieces = std::vector<std::string>;

TEST(SplitScanner, ReadsTheExpressions) {
  // Worked out by hand from the regular expressions.
  EXPECT_EQ(pieces(SplitPattern::gpt2, "I'm  here's 12ab!?"),
            (Pieces{"I", "'m", " ", " here", "'s", " 12", "ab", "!?"}));
  EXPECT_EQ(pieces(SplitPattern::gpt2, "A'S \n\n b"), (Pieces{"A", "'", "S", " \n\n", " b"}));
  EXPECT_EQ(pieces(SplitPattern::gpt2, "x \t"), (Pieces{"x", " \t"}));
  EXPECT_EQ(pieces(SplitPattern::gpt2, "\u3000\u3000x"), (Pieces{"\u3000", "\u3000", "x"}));
  EXPECT_EQ(pieces(SplitPattern::cl100k, "A'S 12345(abc"), (Pieces{"A", "'S", " ", "123", "45", "(abc"}));
  EXPECT_EQ(pieces(SplitPattern::cl100k, "a'\u017f\t\tb \n\n c.\n\nd"),
            (Pieces{"a", "'\u017f", "\t", "\tb", " \n\n", " c", ".\n\n", "d"}));
  EXPECT_EQ(pieces(SplitPattern::cl100k, " ?!\r\n  \n  "), (Pieces{" ?!\r\n", "  \n", "  "}));
  EXPECT_EQ(pieces(SplitPattern::qwen2, "x123"), (Pieces{"x", "1", "2", "3"}));
  EXPECT_EQ(pieces(SplitPattern::gpt2, "a\xff\x80z"), (Pieces{"a", "\xff\x80", "z"}));
  EXPECT_EQ(pieces(SplitPattern::gpt2, " \xe3\x81"), (Pieces{" \xe3\x81"}));
}

TEST(SplitScanner, RecognisesItsOwnExpressions) {
  for (const SplitPattern pattern : {SplitPattern::gpt2, SplitPattern::cl100k, SplitPattern::qwen2}) {
    EXPECT_EQ(recognise_split_pattern(split_pattern_regex(pattern)), pattern);
  }
  EXPECT_EQ(recognise_split_pattern(R"(\p{L}+)"), std::nullopt);
}

}  // namespace
}  // namespace ondol::tokenization
