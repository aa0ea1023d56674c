// Optimizers over the flat buffers of a ParameterStore.
//
//   auto optimizer = make_optimizer({.type = "adamw", .weight_decay = 0.1}, model->parameters(), master);
//   optimizer->step({.learning_rate = 3e-4, .gradient_scale = 1.0, .update = 1});   // uses store.flat_gradients()
//
// Only what is trained (ParameterStore::set_trainable) is updated and has state. f32 models: the model's values are the
// master weights. bf16 models: `master` holds them in f32 and every update
// writes the rounded copy into the model in the same pass. Formulas: torch.optim.AdamW (Loshchilov & Hutter 2019) and
// torch.optim.SGD.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <ondol/io/safetensors.h>
#include <ondol/nn/parameter.h>
#include <ondol/ops/optimizer.h>

namespace ondol {

struct OptimizerConfig {
  std::string type = "adamw";  // adamw, sgd
  double learning_rate = 1e-3;
  double weight_decay = 0.01;
  std::string decay = "matrices";                 // matrices (two or more dimensions, embeddings included), all
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // adamw
  double momentum = 0.0;                          // sgd
  bool nesterov = false;                          // sgd
  double ema_decay = 0.0;                         // of the average of the weights; 0: none is kept
};

struct OptimizerStep {
  double learning_rate = 0.0;
  double gradient_scale = 1.0;  // multiplies every gradient: the clipping factor
  int64_t update = 1;           // counts the updates from 1, for the bias correction
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update of all parameters from the store's gradients, and of their average.
  void step(const OptimizerStep& step);
  /// The same with what scalars() hold when the work is done; does not wait for the device.
  void apply();
  const ops::OptimizerScalarsTensor& scalars() const { return scalars_; }

  /// The flat f32 tensors that a checkpoint keeps beside the model: exp_avg, exp_avg_sq, momentum_buffer, average.
  NamedTensors state() const;

  /// f32, flat, of what is trained: the store's own values in f32 runs.
  const Tensor& master() const { return master_; }
  /// The exponential moving average of the master weights, which begins with the first of them: f32, flat; undefined
  /// without ema_decay.
  const Tensor& average() const { return average_; }
  /// Rounds the master weights into the model, after they were written to.
  void publish() const;

 protected:
  Optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master);

  /// Starts the kernels of one update with scalars_.
  virtual void update() = 0;
  /// What the update keeps between steps.
  virtual NamedTensors buffers() const = 0;

  ParameterStore& store_;
  Tensor master_;
  Tensor low_precision_;  // the store's values in bf16 runs
  ops::OptimizerScalarsTensor scalars_;

 private:
  double ema_decay_;
  Tensor average_;
};

/// While it lives the model's values are the optimizer's average (rounded in bf16 runs); without an average it does
/// nothing.
class AveragedWeights {
 public:
  AveragedWeights(ParameterStore& store, const Optimizer& optimizer);
  ~AveragedWeights();
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  const ParameterStore& store_;
  Tensor values_;
  Tensor saved_;  // what the model held before; undefined without an average
};

/// `master` is f32 with the store's trainable_elements(); undefined: the store's own values (f32) or a copy (bf16).
/// Throws UsageError on an unknown type.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, ParameterStore& store, Tensor master = {});

}  // namespace ondol
