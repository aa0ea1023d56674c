// Objectives: what is predicted, and the loss.
//
//   auto objective = make_objective(config.child("objective"));
//   Batch batch = objective->prepare(loader.next(32), {.model = *model, .seed = 1, .step = 7});
//   Variable loss = objective->loss(*model, batch.rows(0, 8), 1.0 / objective->count_targets(batch), context);
//
// To add one: docs/adding_an_objective.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <ondol/data/batch.h>
#include <ondol/models/model.h>
#include <ondol/ops/loss.h>

namespace ondol {

class JsonReader;

/// What random choices of an objective (masks, spans) may depend on.
struct ObjectiveContext {
  const Model& model;
  uint64_t seed = 0;
  int64_t step = 0;
  bool training = true;
};

class Objective {
 public:
  virtual ~Objective() = default;

  /// Its section of the configuration with every default written out, JSON.
  virtual std::string settings() const = 0;

  /// Throws UsageError when samples like this one (its values mean nothing) do not fit the objective and the model;
  /// called before a run begins.
  virtual void check_samples(const Batch& example, const Model& model) const = 0;

  /// Turns the samples of a step into inputs and targets, for all micro-batches at once. Throws Error when the samples
  /// do not fit.
  virtual Batch prepare(Batch batch, const ObjectiveContext& context) const = 0;

  /// What the loss of a step is divided by: its predictions, over all micro-batches and ranks.
  virtual int64_t count_targets(const Batch& batch) const { return batch.count_targets(); }

  /// scale times the sum over the predictions of these rows, one f32 element; a tape that records gets its backward. On
  /// a device whose work can be captured it must not wait for the device, nor depend on values of the batch on the
  /// host.
  virtual Variable loss(Model& model, const Batch& rows, const LossScale& scale,
                        const ForwardContext& context) const = 0;
};

/// From the section "objective" ("type": "clm" by default). Throws UsageError on an unknown type or setting.
std::unique_ptr<Objective> make_objective(const JsonReader& section);
/// From settings().
std::unique_ptr<Objective> make_objective(const std::string& settings);

/// The tensors of a batch on the model's device.
ModelInput model_input(const Batch& batch, Device device);

}  // namespace ondol
