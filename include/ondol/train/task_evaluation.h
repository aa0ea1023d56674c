// What a fine-tuned model is worth on structured examples: the metrics that a training run measures, without a run.
//
//   TaskEvaluation result = evaluate_task(*model, tokenizer, {.objective = R"({"type": "question_answering"})",
//                                                             .data = {.validation = {{"dev.json"}}}});
//   for (const Metric& metric : result.metrics) ...
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ondol/data/data_loader.h>
#include <ondol/distributed/communicator.h>
#include <ondol/models/model.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/train/evaluator.h>

namespace ondol {

struct TaskEvaluationOptions {
  std::string objective;  // the section "objective" of a training configuration, JSON
  DataConfig data;        // `validation`, `fields`, `columns` and `sequence_length` count
  int64_t batch_size = 8;
  Communicator* communicator = nullptr;  // of the processes that share the work; all get the same; null: one process
};

struct TaskEvaluation {
  std::vector<Metric> metrics;  // the loss first
  int64_t examples = 0;
  double seconds = 0.0;
  std::string report;                    // Evaluator::report
  std::vector<std::string> predictions;  // Evaluator::write_predictions
};

/// Throws UsageError when the model does not fit the objective, or the objective measures nothing.
TaskEvaluation evaluate_task(Model& model, const Tokenizer& tokenizer, const TaskEvaluationOptions& options);

}  // namespace ondol
