// The training loop.
//
//   Trainer trainer(TrainConfig::from_file("configs/train/llama-15m.json"));
//   TrainResult result = trainer.run();              // fills the run directory; continues a run that was interrupted
//   Tensor logits = trainer.model().logits(...);
//
// A run directory holds config.json (fully resolved), metrics.jsonl, TensorBoard events, checkpoint-<step>/ and final/.
// The trainer prints nothing: an observer hears what happens. A resumed run gives the bytes that an undisturbed one
// gives, on any number of processes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ondol/distributed/communicator.h>
#include <ondol/models/model.h>
#include <ondol/train/config.h>
#include <ondol/train/evaluator.h>

namespace ondol {

/// How a rank of a run on several processes has spent a step. On GPUs what communication took is not known: 0.
struct RankMetrics {
  double seconds = 0.0;
  double communication_seconds = 0.0;  // in collectives
  double exposed_seconds = 0.0;        // in which it waited for collectives
  double hidden_seconds = 0.0;         // in collectives beside its own work
  double tokens_per_second = 0.0;      // of its own share of the batch, over the seconds that are not exposed
  double late_seconds = 0.0;           // in which another rank waited for this one more than for any other
};

/// Of a step, or of several added up: how long the rank that took longest was in it.
double longest_seconds(const std::vector<RankMetrics>& ranks);

/// The rank that others wait for during a tenth of the step or more; none when they wait for each other in turn.
std::optional<size_t> straggler(const std::vector<RankMetrics>& ranks);

/// One optimizer step. A step that was skipped has a loss or norm that is not finite, or it had nothing to predict:
/// then the loss is not a number and the norm 0.
struct StepMetrics {
  int64_t step = 0;
  double loss = 0.0;
  double grad_norm = 0.0;  // before clipping
  double learning_rate = 0.0;
  int64_t tokens = 0;               // since the beginning of the run
  int64_t samples = 0;              // since the beginning of the run
  double seconds = 0.0;             // of this step
  double data_seconds = 0.0;        // of them, until the samples were read and prepared
  double checkpoint_seconds = 0.0;  // before this step and not in its seconds: the run stood still for a checkpoint
  double tokens_per_second = 0.0;
  std::optional<double> mfu;  // share of the device's peak, when that is known
  bool skipped = false;
  bool no_targets = false;                             // nothing to predict in the whole batch
  std::vector<std::pair<std::string, double>> losses;  // the terms of the loss, where the objective names them
  std::vector<RankMetrics> ranks;  // on several processes from the second step on: the step before, by rank
};

struct EvaluationMetrics {
  int64_t step = 0;
  double loss = 0.0;  // mean over all predictions
  int64_t targets = 0;
  double seconds = 0.0;
  std::vector<Metric> metrics;  // of the objective (Evaluator::metrics)
};

/// What a run is about to do.
struct RunInfo {
  std::string output;
  std::string resumed_from;  // a checkpoint, or ""
  std::string data;          // one line a source
  int64_t first_step = 1;
  int64_t total_steps = 0;
  int64_t parameters = 0;
  int64_t tokens_per_step = 0;
  std::string device;
  DType dtype = DType::f32;
};

class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_start(const RunInfo&) {}
  virtual void on_step(const StepMetrics&) {}
  virtual void on_evaluation(const EvaluationMetrics&) {}
  virtual void on_checkpoint(const std::string& /*directory*/) {}
  virtual void on_warning(const std::string& /*text*/) {}
  /// Something begins that may take long and for which other ranks may have to wait; it ends when the last copy of what
  /// is returned goes away.
  virtual std::shared_ptr<void> on_long_work(const std::string& /*what*/) { return nullptr; }
};

struct TrainerOptions {
  std::string output;           // "": the configuration's
  std::string resume = "auto";  // auto: the newest whole checkpoint of the run directory; never: start over and remove
                                // what the directory holds of an earlier run; else a checkpoint or run directory
  std::string device = "auto";
  const std::atomic<bool>* stop = nullptr;  // becomes true: save at the next step boundary and return; on any rank
  /// The processes that share the run, each with a Trainer of its own and the same configuration; null: one process.
  /// All ranks must see the run directory: they write models and checkpoints together, the rest is written by rank 0.
  Communicator* communicator = nullptr;
  TrainObserver* observer = nullptr;
};

struct TrainResult {
  int64_t step = 0;       // steps done
  bool finished = false;  // false when `stop` ended the run; true too when evaluation.patience did
  std::string directory;  // final/, or the checkpoint written on `stop`
};

/// What each process of a run keeps from step to step. Not counted: activations, from zero_stage 2 on the gradients of
/// the layers that a backward is at work on, at zero_stage 3 the weights that are gathered while a step lasts.
struct RankMemory {
  int ranks = 1;
  int64_t zero_stage = 0;
  uint64_t parameter_bytes = 0;  // model and master weights
  uint64_t optimizer_bytes = 0;
  uint64_t gradient_bytes = 0;
};

struct DryRunReport {
  RunInfo run;
  double loss = 0.0;
  double grad_norm = 0.0;
  double seconds = 0.0;          // of one step
  uint64_t parameter_bytes = 0;  // model and master weights
  uint64_t optimizer_bytes = 0;
  uint64_t peak_memory_bytes = 0;  // seen in one step
  RankMemory rank;                 // of parallel.data processes
};

/// Throws UsageError when that many processes cannot be shared out as parallel.data and parallel.tensor say.
void check_process_count(const TrainConfig& config, int processes);

class Trainer {
 public:
  explicit Trainer(TrainConfig config, TrainerOptions options = {});
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Throws UsageError when model, tokenizer, data and configuration do not fit together, and Error when a file cannot
  /// be written, the directory is in use, data have changed since the checkpoint, or a loss is not finite.
  TrainResult run();

  /// Builds everything, runs forward and backward of the first batch, changes no weight and leaves no file behind.
  DryRunReport dry_run();

  /// Throws Error before run() or dry_run().
  Model& model();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ondol
