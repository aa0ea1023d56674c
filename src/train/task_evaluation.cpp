#include <ondol/train/task_evaluation.h>

#include <set>

#include <ondol/train/objective.h>

#include "data/record_encoder.h"
#include "train/evaluation.h"

namespace ondol {

TaskEvaluation evaluate_task(Model& model, const Tokenizer& tokenizer, const TaskEvaluationOptions& options) {
  const std::unique_ptr<Objective> objective = make_objective(options.objective);
  DataConfig data = options.data;
  if (data.sequence_length <= 0) data.sequence_length = model.info().max_positions;
  const RecordContext records{
      .model = model, .tokenizer = &tokenizer, .sequence_length = data.sequence_length, .evaluation = true};
  const std::shared_ptr<const RecordEncoder> encoder = objective->record_encoder(records);
  if (encoder == nullptr) throw UsageError("this objective reads no examples (objective.type)");
  DataLoader loader(data, DataSplit::validation, {.vocab_size = model.info().vocab_size, .record_encoder = encoder});
  const Evaluation evaluation = evaluate({.objective = *objective,
                                          .loader = loader,
                                          .model = model,
                                          .tokenizer = &tokenizer,
                                          .context = {.model = model, .training = false},
                                          .ranks = Ranks(options.communicator)},
                                         {.batch_size = options.batch_size, .micro_batch_size = options.batch_size});
  if (evaluation.evaluator == nullptr) throw UsageError("nothing is measured for this objective (objective.type)");
  TaskEvaluation result;
  result.metrics.push_back({"loss", evaluation.metrics.loss, false});
  result.metrics.insert(result.metrics.end(), evaluation.metrics.metrics.begin(), evaluation.metrics.metrics.end());
  std::set<int64_t> examples;
  for (int64_t sample = 0; sample < loader.samples_per_epoch(); ++sample) examples.insert(loader.origin(sample).record);
  result.examples = static_cast<int64_t>(examples.size());
  result.seconds = evaluation.metrics.seconds;
  result.report = evaluation.evaluator->report();
  evaluation.evaluator->write_predictions([&](const std::string& line) { result.predictions.push_back(line); });
  return result;
}

}  // namespace ondol
