#include <ondol/data/decontamination.h>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

#include "support/error_of.h"
#include "support/temporary_directory.h"

namespace ondol {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;

/// "w0 w1 … " of `count` words, from `first` on.
std::string words(int first, int count) {
  std::string text;
  for (int i = first; i < first + count; ++i) text += concat(i == first ? "" : " ", "w", i);
  return text;
}

class Decontamination : public ::testing::Test {
 protected:
  BenchmarkIndex index(DecontaminationOptions options = {}) {
    options.benchmarks = {
        directory_.write("a.jsonl", concat(R"({"q": ")", words(0, 20), R"(", "n": 3, "more": [{"c": ")", words(100, 13),
                                           "\"}]}\n\n", R"({"q": "too short"})", "\n")),
        directory_.write("b.txt", concat(words(5, 14), "\n", words(300, 9), "\n"))};
    return BenchmarkIndex(options);
  }
  static std::string rule(const BenchmarkIndex& index, std::string text) { return index.apply(text).rule; }

  const TemporaryDirectory directory_;
};

TEST_F(Decontamination, ThirteenWordsInARowAreAnOverlap) {
  const BenchmarkIndex benchmarks = index();
  EXPECT_EQ(benchmarks.num_examples(), 5);
  EXPECT_EQ(benchmarks.num_too_short(), 1);
  EXPECT_EQ(benchmarks.num_ngrams(), 8 + 1 + 1);  // those of b.txt but the nine words are in a.jsonl
  const std::string a = directory_ / "a.jsonl", b = directory_ / "b.txt";
  EXPECT_EQ(rule(benchmarks, "x " + words(3, 13) + " y"), a);
  EXPECT_EQ(rule(benchmarks, "x " + words(3, 12) + " y " + words(15, 5)), "");
  EXPECT_EQ(rule(benchmarks, "Before: W100, w101; w102 (w103) \"w104\" w105 w106 w107 w108 w109 w110\nw111 -- w112!"),
            a);
  EXPECT_EQ(rule(benchmarks, words(300, 9)), b);  // shorter than 13: the whole example
  EXPECT_EQ(rule(benchmarks, words(300, 8)), "");
  EXPECT_EQ(rule(benchmarks, "too short"), "");
  EXPECT_EQ(rule(benchmarks, ""), "");
  std::string text = "x " + words(3, 14) + " y";
  EXPECT_EQ(benchmarks.apply(text).detail, concat("2 n-grams: \"", words(3, 13), "\""));
  EXPECT_EQ(text, "x " + words(3, 14) + " y");
}

TEST_F(Decontamination, LengthAndNumberOfMatchesAreOptions) {
  EXPECT_NE(rule(index({.ngram = 5, .min_ngram = 5}), words(3, 5)), "");
  EXPECT_EQ(rule(index({.ngram = 5, .min_ngram = 5}), words(3, 4)), "");
  EXPECT_EQ(rule(index({.min_matches = 3}), words(0, 14)), "");
  EXPECT_NE(rule(index({.min_matches = 3}), words(0, 15)), "");
}

TEST_F(Decontamination, CutsTheOverlapAndWhatIsAroundIt) {
  const BenchmarkIndex benchmarks = index({.cut = true, .window = 4, .min_part = 5, .max_parts = 2});
  bool cut = false;
  std::string text = "Anfang, größer " + words(0, 13) + " und das Ende";
  EXPECT_TRUE(benchmarks.apply(text, &cut).keep());
  EXPECT_TRUE(cut);
  EXPECT_EQ(text, "Anfang, grö\n\ndas Ende");  // four characters, not bytes
  text = "nothing of it";
  EXPECT_TRUE(benchmarks.apply(text, &cut).keep());
  EXPECT_FALSE(cut);
  EXPECT_EQ(text, "nothing of it");
  text = "abc " + words(0, 13);  // nothing long enough is left
  EXPECT_EQ(benchmarks.apply(text, &cut).rule, directory_ / "a.jsonl");
  EXPECT_FALSE(cut);
  text = "first part " + words(0, 13) + " second part " + words(100, 13) + " third part";
  EXPECT_FALSE(benchmarks.apply(text, &cut).keep());  // three parts
}

TEST_F(Decontamination, BadBenchmarksAreNamed) {
  const auto error = [&](const std::string& path, DecontaminationOptions options = {}) {
    options.benchmarks = {path};
    return error_of([&] { BenchmarkIndex{options}; });
  };
  EXPECT_NE(error(directory_ / "none.jsonl").find("none.jsonl"), std::string::npos);
  EXPECT_NE(error(directory_.write("x.jsonl", "{\"a\": \"b\"}\n{oops\n")).find("x.jsonl:2"), std::string::npos);
  EXPECT_NE(error(directory_.write("x.parquet", "")).find("x.parquet"), std::string::npos);
  EXPECT_NE(error(directory_.write("short.txt", "three words only\n")).find("8 words or more"), std::string::npos);
  EXPECT_NE(error(directory_ / "short.txt", {.ngram = 3}), "no error");
  EXPECT_NE(error_of([] { BenchmarkIndex({}); }), "no error");
  EXPECT_EQ(error(directory_.write("x.json", concat("[{\"q\": [\"", words(0, 9), "\"]}]"))), "no error");
}

}  // namespace
}  // namespace ondol
