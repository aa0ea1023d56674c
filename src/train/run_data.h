// What a run reads: tokenizer, data loaders and objective of the current stage.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <ondol/data/data_loader.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/train/config.h>
#include <ondol/train/objective.h>

namespace ondol {

class RunData {
 public:
  /// Loads the tokenizer and checks it against the model. Tokenized text is kept in cache_directory.
  RunData(const TrainConfig& config, const Model& model, std::string cache_directory);

  /// Opens the data of a stage, at `position` unless that is "". Data that the stage before has read as well go on
  /// where they are.
  void open_stage(size_t stage, const std::string& position);

  /// Throws what open_stage would throw, so that a mistake in a later stage does not wait until its turn comes.
  void check_stage(size_t stage) const;

  /// Whether reading the data of some stage makes files (tokenized text) that other processes then open.
  bool makes_files() const;

  /// Of the training data of a stage. Opens it when nothing is open yet.
  int64_t samples_per_epoch(size_t stage);

  DataLoader& train() { return *loaders_.train; }
  /// Null without validation data.
  DataLoader* validation() { return loaders_.validation.get(); }
  const Objective& objective() const { return *objective_; }
  /// What the objective may depend on in a step; training: not in an evaluation.
  ObjectiveContext objective_context(int64_t step, bool training) const;
  /// Null when no tokenizer is used.
  const Tokenizer* tokenizer() const { return tokenizer_ ? &*tokenizer_ : nullptr; }

 private:
  struct Loaders {
    std::unique_ptr<DataLoader> train, validation;
    uint64_t records = 0;  // fingerprint of the encoder of structured examples; 0: none
  };
  Loaders make_loaders(size_t stage, const Objective& objective) const;
  /// What is read for an objective.
  static DataConfig data_of(const StageConfig& stage, const Objective& objective);
  /// Whether the loaders that are open give what this stage and objective read.
  bool has_open(const StageConfig& stage, const Objective& objective) const;
  RecordContext record_context(const StageConfig& stage) const;
  uint64_t record_fingerprint(const Objective& objective, const StageConfig& stage) const;
  void check_samples(const Objective& objective, const Loaders& loaders) const;

  const TrainConfig& config_;
  const Model& model_;
  std::string cache_directory_;
  std::optional<Tokenizer> tokenizer_;
  TextEncoder encoder_;
  Vocabulary vocabulary_;
  std::optional<size_t> stage_;
  Loaders loaders_;
  std::unique_ptr<Objective> objective_;
};

}  // namespace ondol
