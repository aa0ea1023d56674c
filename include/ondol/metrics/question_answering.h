// Exact match and F1 of extracted answers, as the evaluation scripts of SQuAD and KorQuAD compute them.
//
//   metrics::AnswerScores scores = metrics::answer_scores({"the Eiffel Tower"}, {{"Eiffel Tower", "Tower"}});
//   scores.exact_match;                             // 100
//   metrics::exact_match("", {}, metrics::AnswerRules::squad2);             // 1: no answer, as expected
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ondol::metrics {

enum class AnswerRules {
  squad,   // SQuAD 1.1: case, ASCII punctuation, articles and white space do not count; F1 of words
  squad2,  // the same; a question without an answer is right when the prediction is empty
  korquad  // KorQuAD 1.0: quotation marks and brackets do not count either, articles do; F1 of characters
};

/// A text as it is compared.
std::string normalize_answer(const std::string& text, AnswerRules rules = AnswerRules::squad);

/// The best over all expected answers, 0 … 1. Without an expected answer: of the empty text under squad2, else Error.
double exact_match(const std::string& predicted, const std::vector<std::string>& expected,
                   AnswerRules rules = AnswerRules::squad);
double answer_f1(const std::string& predicted, const std::vector<std::string>& expected,
                 AnswerRules rules = AnswerRules::squad);

/// Means over all questions, 0 … 100.
struct AnswerScores {
  double exact_match = 0.0, f1 = 0.0;
  int64_t total = 0;
  int64_t answerable = 0;  // questions with an expected answer
  double answerable_exact_match = 0.0, answerable_f1 = 0.0;
  double unanswerable_exact_match = 0.0;  // the share of the others for which the prediction is empty
};
/// Throws Error when the numbers differ or there are none.
AnswerScores answer_scores(std::span<const std::string> predicted, std::span<const std::vector<std::string>> expected,
                           AnswerRules rules = AnswerRules::squad);

}  // namespace ondol::metrics
