// One optimizer step: micro-batches, clipping, update, without waiting for the device.
//
//   TrainingStep step(model, optimizer, {.seed = 1, .max_grad_norm = 1.0});
//   step.start(objective, batch, {.micro_batch_size = 8, .step = 7, .learning_rate = 3e-4});
//   GradientResult result = step.wait();               // of the oldest step that was started
//
// What changes from step to step stands in tensors that keep their place (batch, step number, number of targets,
// learning rate), and the device itself decides whether a step with a loss or gradient that is not finite is left out.
// So the work of a step is the same each time: it is captured once and replayed (tensor/step_graph.h), and the host may
// start the next step before it has seen the result of this one.
//
// With several ranks each one gets the whole batch, computes its share of the micro-batches, and has the sum of all
// gradients and every loss afterwards: all ranks make the same update. With sharding (train/sharding.h) each one has
// the sum of what it keeps, updates that, and has all values afterwards. Ranks that hold a model together
// (train/rank_grid.h) compute the same micro-batches.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include <ondol/train/objective.h>
#include <ondol/train/optimizer.h>

#include "tensor/step_graph.h"
#include "tensor/transfer.h"
#include "train/device_batch.h"
#include "train/gradient_sum.h"
#include "train/rank_grid.h"
#include "train/rank_report.h"
#include "train/sharding.h"
#include "train/value_shards.h"

namespace ondol {

struct GradientResult {
  double loss = 0.0;           // mean over all predictions of the batch
  double grad_norm = 0.0;      // before clipping
  std::vector<double> terms;   // of the loss, where the objective names them
  std::vector<double> losses;  // what each micro-batch adds to the loss
  /// Of several ranks the first whose own gradient is not finite, before it was added to those of the others, and the
  /// micro-batches that it is the sum of.
  struct NotFinite {
    int rank = 0;
    int64_t first = 0, count = 0;
  };
  std::optional<NotFinite> not_finite;
  std::vector<RankReport> ranks;
  bool finite() const;
  /// Some rank wants the run to end.
  bool stop() const;
  /// Every rank has written its part of the checkpoint that is under way.
  bool parts_are_written() const;
};

struct TrainingStepSettings {
  uint64_t seed = 0;
  double max_grad_norm = 0.0;       // 0: gradients are not clipped
  double label_smoothing = 0.0;     // of the losses (LossScale)
  bool stop_at_non_finite = false;  // after a step that is not finite no later one changes a weight either
  int64_t updates = 0;              // done before this process
  bool dropout = true;
  bool gradient_checkpointing = false;
};

struct StepArguments {
  int64_t micro_batch_size = 1;
  int64_t step = 1;
  double learning_rate = 0.0;
  int64_t held_below = 0;  // groups of parameters that are held (Optimizer::hold_below)
  RankReport report;       // of this rank; all ranks hear of it with the step's result
};

/// The terms of the loss of a prepared batch without gradients or dropout, each a mean over its own targets. The ranks
/// share the work. `shards`: the model's values, within a ValueShards::Use; null: they are all there.
std::vector<double> mean_losses(Model& model, const Objective& objective, const Batch& batch, int64_t micro_batch_size,
                                const Ranks& ranks = Ranks(), ValueShards* shards = nullptr);

class TrainingStep {
 public:
  /// `sharding`: that of the optimizer. `values`: where the model's are shared out.
  TrainingStep(Model& model, Optimizer& optimizer, const TrainingStepSettings& settings,
               const RankGrid& grid = RankGrid(), std::shared_ptr<const Sharding> sharding = nullptr,
               ValueShards* values = nullptr);

  /// Forward, backward and update of a prepared batch.
  void start(const Objective& objective, const Batch& batch, const StepArguments& arguments);
  /// Waits for the oldest step that was started and not waited for.
  GradientResult wait();

  /// As start and wait, without the update.
  GradientResult gradients(const Objective& objective, const Batch& batch, const StepArguments& arguments);

  /// The rank (the first of a group that holds the model together) that computes a micro-batch of a step of so many.
  int rank_of(int64_t micro_batch, int64_t micro_batches) const;
  /// Tokens of this rank's share of the step that was started last.
  int64_t share_tokens() const { return share_tokens_; }
  /// Steps that were replays of captured work.
  uint64_t replays() const { return graph_.replays(); }

 private:
  /// Values come before a layer is run and go when its gradients are on their way.
  struct Hooks final : LayerHooks {
    Hooks(GradientSum& gradients, ValueShards* shards) : sum(gradients), values(shards) {}
    void before_forward(const LayerParameters& layer) override {
      sum.before_forward(layer);
      if (values != nullptr) values->before_forward(layer);
    }
    void after_forward(const LayerParameters& layer) override {
      if (values != nullptr) values->after_forward(layer);
    }
    void before_backward(const LayerParameters& layer) override {
      if (values != nullptr) values->before_backward(layer);
    }
    void after_backward(const LayerParameters& layer) override {
      sum.after_backward(layer);
      if (values != nullptr) values->after_backward(layer);
    }
    GradientSum& sum;
    ValueShards* const values;
  };
  struct Result {
    PendingRead reports, sum_squares;
    int64_t micro_batches;
    int64_t share_size;
  };
  MicroBatchShare share_of(int64_t micro_batches, int rank) const;
  /// Flags that a rank tells: of each micro-batch where ranks add up after each, else of all of a step.
  int64_t own_flags(int64_t share) const { return ranks_.size() == 1 ? 0 : sum_.in_rounds() ? share : 1; }
  void upload_inputs(const Objective& objective, const Batch& batch, const StepArguments& arguments);
  void run_micro_batches(const Objective& objective);
  void backward(const Objective& objective);
  void add_squares();
  void start_reading();
  /// What a rank reports of a step: the losses of its micro-batches, each named term of theirs, the flags of its own
  /// gradients (GradientSum::own_flag), its RankReport.
  Tensor loss_of(int64_t micro_batch) const { return own_report().narrow(0, micro_batch, 1); }
  Tensor term_of(int64_t term, int64_t micro_batch) const {
    return own_report().narrow(0, (term + 1) * share_.size + micro_batch, 1);
  }
  Tensor flag_of(int64_t gradient) const {
    const int64_t first = reports_.size(1) - kRankReportFloats - own_flags(share_.size);
    return own_report().narrow(0, first + gradient, 1);
  }
  Tensor own_report() const { return reports_.narrow(0, grid_.all().rank(), 1).reshape({reports_.size(1)}); }

  Model& model_;
  Optimizer& optimizer_;
  const TrainingStepSettings settings_;
  const RankGrid grid_;
  const Ranks ranks_;  // that share the micro-batches
  const std::shared_ptr<const Sharding> sharding_;
  int64_t micro_batches_ = 0;  // of the step, on all ranks
  MicroBatchShare share_;
  int64_t share_tokens_ = 0;
  std::string order_of_;  // objective whose backward sum_ knows
  GradientSum sum_;
  Hooks hooks_;
  DeviceBatch batch_;
  Tensor step_;         // i64, read by dropout
  Tensor loss_scales_;  // f32: 1 / number of targets, for each term of the loss
  /// f32 (ranks, (1 + named terms) * share + own_flags + kRankReportFloats); what nobody fills is 0.
  Tensor reports_;
  Tensor squares_;      // f64, of the gradients of each block
  Tensor sum_squares_;  // their sum
  std::deque<Result> started_;
  StepGraph graph_;  // goes first: nothing that it writes to is freed before it
};

}  // namespace ondol
