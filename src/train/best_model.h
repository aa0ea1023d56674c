// The best model of a run so far, and when to stop looking for a better one.
//
//   BestModel best(config.evaluation, config.output, state);
//   if (best.offer(metrics)) best.keep(model, tokenizer, evaluation, ranks);    // RUN/best-<step>/
//   if (best.exhausted()) ...                                              // patience is at an end
//   best.forget_others();                                                  // once a checkpoint knows of it
//
// What is best stands in the trainer's state, so that a resumed run goes on with it. The directory of the one that the
// newest checkpoint knows is kept until a checkpoint knows a better one: a killed run can always be continued.
#pragma once

#include <string>

#include <ondol/train/checkpoint.h>
#include <ondol/train/config.h>
#include <ondol/train/trainer.h>

#include "train/evaluation.h"
#include "train/ranks.h"

namespace ondol {

class BestModel {
 public:
  BestModel(const TrainConfig::Evaluation& settings, const std::string& run_directory, TrainerState& state)
      : settings_(settings), run_directory_(run_directory), state_(state) {}

  /// Whether the evaluation is better than all before it; counts those that are not. Throws UsageError when there is no
  /// metric of the configured name. What is no number is never better.
  bool offer(const EvaluationMetrics& metrics);
  /// Writes the model and what was found out about it. Collective.
  void keep(const Model& model, const Tokenizer* tokenizer, const Evaluation& evaluation, const Ranks& ranks,
            const HeldParts& held = {}) const;
  bool exhausted() const { return settings_.patience > 0 && state_.evaluations_since_best >= settings_.patience; }
  /// "" when there is none yet.
  std::string directory() const;
  /// Removes the directories of all but the best one.
  void forget_others() const;

 private:
  const TrainConfig::Evaluation& settings_;
  const std::string& run_directory_;
  TrainerState& state_;
};

}  // namespace ondol
