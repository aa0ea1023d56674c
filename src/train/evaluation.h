// One look at the validation data: the loss, and what the objective's evaluator measures.
#pragma once

#include <memory>

#include <ondol/train/trainer.h>

#include "train/run_data.h"
#include "train/training_step.h"

namespace ondol {

struct EvaluationSizes {
  int64_t samples = 0;  // at most; 0: all
  int64_t batch_size = 1;
  int64_t micro_batch_size = 1;
};

struct Evaluation {
  EvaluationMetrics metrics;
  std::unique_ptr<Evaluator> evaluator;  // null where the objective has none
};

struct EvaluationInputs {
  const Objective& objective;
  DataLoader& loader;
  Model& model;
  const Tokenizer* tokenizer = nullptr;
  ObjectiveContext context;
  Ranks ranks = Ranks();          // share the work; all get the same evaluation
  ValueShards* values = nullptr;  // where the model's are shared out; an evaluator has them whole
};

/// Always the first samples in file order. For an evaluator they come by length, so that little is padding.
Evaluation evaluate(const EvaluationInputs& inputs, const EvaluationSizes& sizes);
/// Of the validation data of a run.
Evaluation evaluate(RunData& data, Model& model, const EvaluationSizes& sizes, const Ranks& ranks,
                    ValueShards* values = nullptr);

/// DIRECTORY/predictions.jsonl and report.json: every metric by name, and the evaluator's own report.
void write_evaluation(const std::string& directory, const Evaluation& evaluation);

}  // namespace ondol
