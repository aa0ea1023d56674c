// MinHash against the true Jaccard index and its binomial error; bands against 1 - (1 - s^r)^b.
#include <ondol/data/minhash.h>

#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

#include "data/clean/words.h"
#include "support/error_of.h"

namespace ondol {
namespace {

using testing::error_of;

/// Texts of different words, `shared` of them in both and `own` in each alone: with 1-grams their Jaccard index is
/// shared / (shared + 2 own).
struct Pair {
  std::string a, b;
};
Pair texts(int pair, int shared, int own) {
  Pair result;
  for (int i = 0; i < shared + 2 * own; ++i) {
    const std::string word = concat("w", pair, "x", i, " ");
    if (i < shared + own) result.a += word;
    if (i < shared || i >= shared + own) result.b += word;
  }
  return result;
}

TEST(MinHash, EstimatesTheJaccardIndexWithinItsBinomialError) {
  const int kPairs = 150;
  for (const auto& [shared, own] : std::vector<std::pair<int, int>>{{60, 20}, {80, 10}, {95, 3}, {20, 40}, {2, 49}}) {
    const double jaccard = shared / static_cast<double>(shared + 2 * own);
    double sum = 0, squares = 0;
    for (int p = 0; p < kPairs; ++p) {
      const MinHasher hasher({.ngram = 1, .seed = static_cast<uint64_t>(p)});
      const Pair pair = texts(p, shared, own);
      std::vector<uint32_t> a, b;
      ASSERT_TRUE(hasher.signature(pair.a, a) && hasher.signature(pair.b, b));
      ASSERT_EQ(a.size(), 112u);
      const double error = estimate_jaccard(a, b) - jaccard;
      sum += error;
      squares += error * error;
    }
    const double variance = jaccard * (1 - jaccard) / 112;
    EXPECT_LT(std::abs(sum / kPairs), 4 * std::sqrt(variance / kPairs)) << jaccard;
    // The mean square of 150 errors is within 40 % of the variance: more than four of its standard deviations.
    EXPECT_NEAR(squares / kPairs / variance, 1, 0.4 + 0.3 * (jaccard < 0.05)) << jaccard;
  }
}

TEST(MinHash, BandsAgreeAsOftenAsTheFormulaSays) {
  EXPECT_NEAR(candidate_probability(0.8, 14, 8), 0.9236, 1e-3);  // (1 - 0.8^8)^14 = 0.0764
  EXPECT_DOUBLE_EQ(candidate_probability(1, 14, 8), 1);
  EXPECT_DOUBLE_EQ(candidate_probability(0, 14, 8), 0);
  const int kPairs = 400;
  for (const auto& [shared, own] : std::vector<std::pair<int, int>>{{60, 20}, {70, 15}, {75, 12}, {84, 8}}) {
    const double jaccard = shared / static_cast<double>(shared + 2 * own);
    const double expected = candidate_probability(jaccard, 14, 8);
    int candidates = 0;
    for (int p = 0; p < kPairs; ++p) {
      const MinHasher hasher({.ngram = 1, .seed = static_cast<uint64_t>(1000 + p)});
      const Pair pair = texts(p, shared, own);
      std::vector<uint32_t> a, b;
      std::vector<uint64_t> bands_a, bands_b;
      hasher.signature(pair.a, a);
      hasher.signature(pair.b, b);
      hasher.band_hashes(a, bands_a);
      hasher.band_hashes(b, bands_b);
      ASSERT_EQ(bands_a.size(), 14u);
      bool any = false;
      for (size_t i = 0; i < bands_a.size(); ++i) any = any || bands_a[i] == bands_b[i];
      candidates += any;
    }
    const double deviation = std::sqrt(expected * (1 - expected) / kPairs);
    EXPECT_NEAR(candidates / static_cast<double>(kPairs), expected, 4 * deviation) << jaccard;
  }
}

TEST(MinHash, ShinglesAreRunsOfWordsAndSpellingDoesNotCount) {
  const MinHasher hasher({});
  const auto signature = [&](const std::string& text) {
    std::vector<uint32_t> entries;
    hasher.signature(text, entries);
    return entries;
  };
  EXPECT_EQ(signature("Don't STOP, me now: please!"), signature("don t stop\nme now please"));
  EXPECT_EQ(
      signature("한국어 문장은 이렇게 쓴다고 합니다"),
      signature("\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab\xe1\x84\x80\xe1\x85\xae\xe1\x86\xa8\xe1\x84\x8b\xe1\x85\xa5 "
                "문장은, 이렇게 쓴다고 합니다."));  // the first word in letters that combine
  EXPECT_NE(signature("one two three four five six"), signature("six five four three two one"));
  EXPECT_EQ(signature("one two three"), signature("One two three"));  // shorter than a shingle
  EXPECT_NE(signature("one two three"), signature("one two four"));
  std::vector<uint32_t> nothing = {1};
  EXPECT_FALSE(hasher.signature(" .,; ", nothing));
  EXPECT_TRUE(nothing.empty());
  EXPECT_NE(error_of([] { MinHasher({.ngram = 0}); }), "no error");
  EXPECT_NE(error_of([] { MinHasher({.bands = 1 << 12, .rows = 1 << 12}); }), "no error");
  EXPECT_NE(error_of([] { MinHasher({.rows = -1}); }), "no error");
}

TEST(Words, AreNormalisedRunsWithTheirPlaces) {
  const auto words = [](const std::string& text) {
    clean::WordReader reader(text);
    std::vector<std::string> all;
    for (clean::Word word; reader.next(word);) {
      all.emplace_back(concat(word.text, "<", text.substr(word.begin, word.end - word.begin), ">"));
    }
    return all;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(words("It's 3.5 ÉTÉ_x"), (Texts{"it<It>", "s<s>", "3<3>", "5<5>", "été_x<ÉTÉ_x>"}));
  EXPECT_EQ(words("ＡＢＣ、日本のＢ"), (Texts{"abc<ＡＢＣ>", "日<日>", "本<本>", "の<の>", "b<Ｂ>"}));
  EXPECT_EQ(words("a\xff"
                  "b\xe2\x80\x94z 中a"),
            (Texts{"a<a>", "b<b>", "z<z>", "中<中>", "a<a>"}));
  EXPECT_EQ(words(""), Texts{});
}

TEST(Words, NgramsAreEqualWhereTheirWordsAre) {
  std::vector<uint64_t> words, other, a, b;
  clean::word_hashes("a b c d e f g a b c d", words);
  clean::word_hashes("x x x a b c d", other);
  clean::ngram_hashes(words, 4, a);
  clean::ngram_hashes(other, 4, b);
  ASSERT_EQ(a.size(), 8u);
  ASSERT_EQ(b.size(), 4u);
  EXPECT_EQ(a[0], a[7]);
  EXPECT_EQ(a[0], b[3]);
  EXPECT_EQ(std::set<uint64_t>(a.begin(), a.end()).size(), 7u);
  clean::ngram_hashes(words, 100, b);
  EXPECT_EQ(b.size(), 1u);
  clean::ngram_hashes({}, 4, b);
  EXPECT_TRUE(b.empty());
}

}  // namespace
}  // namespace ondol
