// Objectives: what is predicted, and the loss.
//
//   auto objective = make_objective(config.child("objective"));
//   Batch batch = objective->prepare(loader.next(32), {.model = *model, .seed = 1, .step = 7});
//   const auto scales = mean_scales(objective->count_targets(batch, *model));
//   std::vector<Variable> terms = objective->losses(*model, batch.rows(0, 8), scales, context);
//
// To add one: docs/adding_an_objective.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ondol/data/data_loader.h>
#include <ondol/distributed/communicator.h>
#include <ondol/models/model.h>
#include <ondol/ops/loss.h>
#include <ondol/train/evaluator.h>
#include <ondol/train/vocabulary.h>

namespace ondol {

class JsonReader;
class Record;
class RecordEncoder;
class Tokenizer;

/// What random choices of an objective (masks, spans) may depend on.
struct ObjectiveContext {
  const Model& model;
  const Vocabulary* vocabulary = nullptr;  // null: there is no tokenizer
  const Tokenizer* tokenizer = nullptr;    // null: there is none
  uint64_t seed = 0;
  int64_t step = 0;
  bool training = true;
  Communicator* communicator = nullptr;  // of processes that prepare the same batch and may share the work; null: none
};

/// What the encoder of structured examples may depend on.
struct RecordContext {
  const Model& model;
  const Tokenizer* tokenizer = nullptr;  // null: there is none
  int64_t sequence_length = 0;           // data.sequence_length, or what the model allows
  bool evaluation = false;               // of validation data
};

/// Where a model's values come from.
struct ModelOrigin {
  enum Kind { drawn, files, checkpoint } kind = drawn;
  std::string tokenizer;  // path of the run's tokenizer, "" when there is none
  uint64_t seed = 0;
};

/// Shows every structured example of the training data, in order.
using RecordScan = std::function<void(const std::function<void(const Record&)>& visit)>;

class Objective {
 public:
  virtual ~Objective() = default;

  /// Its section of the configuration with every default written out, JSON.
  virtual std::string settings() const = 0;

  /// The head that a model of a new run gets, with labels from the training data where that is where they come from; by
  /// default the one that `base` (without weights) has.
  virtual std::optional<HeadRequest> head(const Model& base, const RecordScan& training) const;

  /// Adds the parameters that the objective itself needs (ParameterStore::add_extra, names "objective....").
  virtual void extend(Model& /*model*/) const {}

  /// Called once the model has its values (f32): loads what stands beside it (Model::attach), and may give a new model
  /// other first values. Throws UsageError when those do not fit.
  virtual void set_up(Model& /*model*/, const ModelOrigin& /*origin*/) const {}

  /// What the terms of the loss are called in metrics, when they are to be told apart there.
  virtual std::vector<std::string> loss_names() const { return {}; }

  /// Tokens of text that make a sample of data.sequence_length; by default as many.
  virtual int64_t tokens_per_sample(int64_t sequence_length) const { return sequence_length; }

  /// Objectives for structured examples: what makes samples of them (src/data/record_encoder.h). By default nothing:
  /// samples are cut from tokens.
  virtual std::shared_ptr<const RecordEncoder> record_encoder(const RecordContext& context) const;

  /// What else the objective asks of the data: sentence pairs (DataConfig::pairs). By default nothing.
  virtual void choose_data(DataConfig& /*data*/) const {}

  /// Throws UsageError when samples like this one (its values mean nothing) do not fit the objective, the model and the
  /// vocabulary; called before a run begins. By default the model's own check.
  virtual void check_samples(const Batch& example, const ObjectiveContext& context) const;

  /// Turns the samples of a step into inputs and targets, for all micro-batches at once. Throws Error when the samples
  /// do not fit. By default what Model::prepare makes of them.
  virtual Batch prepare(Batch batch, const ObjectiveContext& context) const;

  /// What each term of the loss of a step is divided by: its targets, over all micro-batches and ranks. By default the
  /// model's terms.
  virtual std::vector<int64_t> count_targets(const Batch& prepared, const Model& model) const;

  /// For each term scales[i] times the sum over the targets of these rows, one f32 element, undefined where there can
  /// be none; a tape that records gets their backward. On a device whose work can be captured it must not wait for the
  /// device, nor depend on values of the batch on the host. By default the model's own loss.
  virtual std::vector<Variable> losses(Model& model, const Batch& rows, const std::vector<LossScale>& scales,
                                       const ForwardContext& context) const;

  /// What is measured of the validation data besides the loss; by default nothing.
  virtual std::unique_ptr<Evaluator> evaluator(const EvaluatorContext& context) const;
};

/// From the section "objective" ("type": "clm" by default). Throws UsageError on an unknown type or setting.
std::unique_ptr<Objective> make_objective(const JsonReader& section);
/// From settings().
std::unique_ptr<Objective> make_objective(const std::string& settings);

/// The tensors of a batch as a model takes them. Throws UsageError when the batch has a tensor of another name.
ModelInput model_input(const Batch& batch);
/// The batch with the tensors of a prepared input.
Batch with_input(Batch batch, const ModelInput& prepared);

}  // namespace ondol
