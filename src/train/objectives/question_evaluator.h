// Exact match and F1 of the answers that a model gives to validation questions.
#pragma once

#include <memory>
#include <string>

#include <ondol/train/evaluator.h>

#include "predict/answer_windows.h"
#include "train/objectives/answer_records.h"

namespace ondol {

struct QuestionSettings {
  int64_t stride = 128, max_question_length = 64;
  int64_t best_count = 20, max_answer_length = 30;
  bool no_answer = false;
  double null_threshold = 0.0;
  std::string missing_answer = "error";  // error, drop
  std::string rules = "squad";           // of the metrics: squad, squad2, korquad
};

/// What the evaluator needs of a window, as text beside its sample.
std::string window_reference(const QuestionRecord& example, const AnswerWindow& window, bool first);

std::unique_ptr<Evaluator> make_question_evaluator(const QuestionSettings& settings, const EvaluatorContext& context);

}  // namespace ondol
