// Expected values: the published evaluation scripts' formulas (SQuAD 1.1 and 2.0, KorQuAD 1.0) computed in Python.
#include <fstream>
#include <vector>

#include <ondol/base/error.h>
#include <ondol/metrics/question_answering.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "metrics/text.h"
#include "support/test_data.h"

namespace ondol::metrics {
namespace {

TEST(Answers, Normalization) {
  EXPECT_EQ(normalize_answer("The  \"A-Team\", an  a.b the_the Theatre"), "ateam ab thethe theatre");
  EXPECT_EQ(normalize_answer("a\u0301 the\u0301 \u00e9 THE-END"), "\u0301 \u0301 \u00e9 theend");
  EXPECT_EQ(normalize_answer("An 안녕 The한국 the 한국"), "안녕 the한국 한국");
  EXPECT_EQ(normalize_answer("ΑΒΓ ΟΔΟΣ, ΣΑΣ. Σ"), "αβγ οδο\u03c2 σα\u03c2 σ");
  EXPECT_EQ(normalize_answer("《동의보감》(東醫寶鑑), 'A' the 책", AnswerRules::korquad), "동의보감 東醫寶鑑 a the 책");
  EXPECT_EQ(normalize_answer("〈시〉 ‘가’ <나>\"다\" 1,000원.", AnswerRules::korquad), "시 가 나 다 1000원");
}

TEST(Answers, TheBestExpectedAnswerCounts) {
  EXPECT_EQ(exact_match("Tower, the", {"Eiffel", "tower"}), 1.0);
  EXPECT_EQ(answer_f1("big blue tower", {"x", "blue tower of Paris"}), 4.0 / 7.0);
  EXPECT_EQ(answer_f1("서울시", {"서울"}, AnswerRules::korquad), 0.8);
  EXPECT_EQ(answer_f1("서울시", {"서울"}), 0.0);
}

TEST(Answers, QuestionsWithoutAnAnswer) {
  EXPECT_EQ(exact_match("", {}, AnswerRules::squad2), 1.0);
  EXPECT_EQ(answer_f1("", {}, AnswerRules::squad2), 1.0);
  EXPECT_EQ(answer_f1("x", {}, AnswerRules::squad2), 0.0);
  EXPECT_EQ(answer_f1("the", {"a"}, AnswerRules::squad2), 1.0);
  EXPECT_EQ(answer_f1("the", {"a"}), 0.0);
  EXPECT_THROW(answer_f1("x", {}), Error);
  const std::vector<std::string> predicted = {"", "cat", "dog"};
  const std::vector<std::vector<std::string>> expected = {{}, {}, {"a dog"}};
  const AnswerScores scores = answer_scores(predicted, expected, AnswerRules::squad2);
  EXPECT_NEAR(scores.exact_match, 200.0 / 3.0, 1e-12);
  EXPECT_EQ(scores.answerable, 1);
  EXPECT_EQ(scores.answerable_f1, 100.0);
  EXPECT_EQ(scores.unanswerable_exact_match, 50.0);
}

/// Of every four questions the answer itself, with one character more on both sides, five before, six behind.
AnswerScores scores_of_file(const std::string& relative, AnswerRules rules) {
  std::ifstream file(test::data_path(relative));
  const nlohmann::json document = nlohmann::json::parse(file);
  std::vector<std::string> predicted;
  std::vector<std::vector<std::string>> expected;
  for (const auto& article : document["data"]) {
    for (const auto& paragraph : article["paragraphs"]) {
      const std::vector<uint32_t> context = code_points(paragraph["context"].get<std::string>());
      for (const auto& question : paragraph["qas"]) {
        constexpr int64_t kBefore[] = {0, 1, 5, 0}, kBehind[] = {0, 1, 0, 6};
        const size_t kind = predicted.size() % 4;
        const auto& first = question["answers"][0];
        const int64_t start = first["answer_start"];
        const auto length = static_cast<int64_t>(code_points(first["text"].get<std::string>()).size());
        const int64_t begin = std::max<int64_t>(start - kBefore[kind], 0);
        const int64_t end = std::min<int64_t>(start + length + kBehind[kind], static_cast<int64_t>(context.size()));
        predicted.push_back(to_utf8({context.begin() + begin, context.begin() + end}));
        expected.emplace_back();
        for (const auto& answer : question["answers"]) expected.back().push_back(answer["text"]);
      }
    }
  }
  return answer_scores(predicted, expected, rules);
}

TEST(Answers, EnglishAndGerman) {
  ONDOL_REQUIRE_DATA("tasks/xquad/xquad.en.json");
  const AnswerScores english = scores_of_file("tasks/xquad/xquad.en.json", AnswerRules::squad);
  EXPECT_EQ(english.total, 1190);
  EXPECT_NEAR(english.exact_match, 55.63025210084034, 1e-10);
  EXPECT_NEAR(english.f1, 88.38227869210286, 1e-10);
  const AnswerScores german = scores_of_file("tasks/xquad/xquad.de.json", AnswerRules::squad);
  EXPECT_NEAR(german.exact_match, 50.588235294117645, 1e-10);
  EXPECT_NEAR(german.f1, 87.57352784357263, 1e-10);
}

TEST(Answers, Korean) {
  ONDOL_REQUIRE_DATA("tasks/korquad/KorQuAD_v1.0_dev.json");
  const AnswerScores scores = scores_of_file("tasks/korquad/KorQuAD_v1.0_dev.json", AnswerRules::korquad);
  EXPECT_EQ(scores.total, 5774);
  EXPECT_NEAR(scores.exact_match, 35.746449601662626, 1e-10);
  EXPECT_NEAR(scores.f1, 83.257258672103, 1e-10);
}

}  // namespace
}  // namespace ondol::metrics
