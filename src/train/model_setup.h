// The model and the optimizer of a run, from a configuration or a checkpoint.
#pragma once

#include <memory>
#include <string>

#include <ondol/train/checkpoint.h>
#include <ondol/train/config.h>

#include "train/rank_grid.h"
#include "train/sharding.h"
#include "train/value_shards.h"

namespace ondol {

struct TrainingModel {
  std::unique_ptr<Model> model;
  std::shared_ptr<const Sharding> sharding;  // null: every rank keeps all
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<ValueShards> values;  // null: every rank has all values at all times

  /// What this rank writes of the model; null: it has all of it.
  HeldParts held() const { return values != nullptr ? values->held() : HeldParts(); }
};

/// `checkpoint` may be "". Master weights are read or drawn in f32 and only then rounded to the model's dtype.
/// Where ranks hold a model together, the part of it that is this rank's. Throws UsageError naming what cannot be
/// split. Collective.
TrainingModel make_training_model(const TrainConfig& config, const std::string& device, const std::string& checkpoint,
                                  const RankGrid& grid);

/// Throws UsageError naming two keys of the configuration of which one is parallel.tensor.
void check_tensor_parallel(const TrainConfig& config);

/// The run's model without weights.
std::unique_ptr<Model> outline_training_model(const TrainConfig& config);

/// The configured tokenizer, or that of the model directory to start from; "" when there is none.
std::string tokenizer_path(const TrainConfig& config);

/// Of the configuration file that the model is made from; "" when there is none (any more).
std::string model_fingerprint(const TrainConfig& config);

}  // namespace ondol
