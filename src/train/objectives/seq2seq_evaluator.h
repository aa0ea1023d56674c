// Texts that a model generates from validation sources, and how near they come to their targets.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ondol/train/evaluator.h>

namespace ondol {

struct Seq2SeqEvaluation {
  std::vector<std::string> metrics = {"bleu", "chrf", "rouge"};
  int64_t max_new_tokens = 128;
  int64_t beams = 1;
  double length_penalty = 1.0;
};

/// The references of a sample are a JSON list of texts (SampleOrigin::reference).
std::unique_ptr<Evaluator> make_seq2seq_evaluator(const Seq2SeqEvaluation& settings, const EvaluatorContext& context);

}  // namespace ondol
