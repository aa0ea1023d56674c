// The configuration of a training run. Every key is described in docs/config.md.
//
//   TrainConfig config = TrainConfig::from_file("configs/train/llama-15m.json", {"train.steps=100"});
//   std::string text = config.resolved_json();       // with every default written out; from_json(text) gives the same
//
// Strict: an unknown key, a value of the wrong type or out of range, and combinations that cannot work are UsageErrors
// that name key and file. Relative paths are relative to the working directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ondol/base/dtype.h>
#include <ondol/data/data_loader.h>
#include <ondol/models/lora.h>
#include <ondol/train/optimizer.h>
#include <ondol/train/schedule.h>

namespace ondol {

/// A size that begins small and grows within a stage; without steps it is what it is from the beginning.
struct RampConfig {
  int64_t start = 0;
  int64_t steps = 0;
};

/// What may change between the phases of a run. A run without "stages" has one.
struct StageConfig {
  int64_t steps = 0;
  double epochs = 0.0;           // > 0: steps follow from the size of the data, once that is known
  int64_t batch_size = 0;        // samples of one optimizer step, over all ranks
  int64_t micro_batch_size = 0;  // samples of one forward and backward; divides batch_size
  RampConfig batch_ramp;         // of batch_size: linear, in whole micro-batches
  RampConfig length_ramp;        // of data.sequence_length: doubling; samples are cut, none is lost
  // Of models with rotary positions, from this stage on.
  std::optional<double> rope_theta;
  std::optional<int64_t> max_positions;
  DataConfig data;
  double learning_rate = 0.0;  // the peak
  ScheduleConfig schedule;
  std::string objective = R"({"type":"clm"})";  // the section as JSON; see make_objective
};

struct TrainConfig {
  struct Model {
    std::string config;  // a Hugging Face config.json, trained from scratch
    std::string from;    // or a model directory, fine-tuned
  } model;
  std::string tokenizer;  // directory or file; "" when no text is read
  std::vector<StageConfig> stages;
  OptimizerConfig optimizer;
  std::optional<LoraConfig> lora;
  struct Freeze {
    std::vector<std::string> patterns;  // of names of parameters that are not trained
    int64_t layers = 0;                 // > 0: nor embeddings and the lowest layers
  } freeze;

  /// Gradual unfreezing: at first only what stands on top of the layers is trained, then a layer more each time.
  struct Unfreeze {
    int64_t steps = 0;    // until the next layer; 0: all are trained from the beginning
    double epochs = 0.0;  // > 0: steps follow from the size of the data of the first stage
    bool given() const { return steps > 0 || epochs > 0.0; }
  } unfreeze;

  double max_grad_norm = 1.0;  // 0: no clipping
  double label_smoothing = 0.0;
  DType dtype = DType::f32;
  uint64_t seed = 1234;
  bool deterministic = true;
  bool gradient_checkpointing = false;
  std::string on_non_finite = "stop";  // stop, skip

  struct Evaluation {
    int64_t every = 0;       // steps; 0: never
    int64_t batches = 0;     // of the stage's batch_size samples; 0: all validation data
    std::string metric;      // what the best model is chosen by; "": the objective's first one, or "loss"
    bool keep_best = false;  // final/ is the model of the best evaluation
    int64_t patience = 0;    // > 0: evaluations without a better one after which the run ends
  } evaluation;
  struct Checkpoint {
    int64_t every = 500;  // steps; 0: none
    int64_t keep = 3;     // newest ones kept; 0: all
    bool allow_changed_data = false;
    bool background = true;  // files are made while training goes on
  } checkpoint;
  struct Logging {
    int64_t every = 1;
    bool tensorboard = true;
    double peak_flops = 0.0;  // of the device, for mfu; 0: measured or unknown
  } logging;
  struct Parallel {
    int64_t data = 1;
    int64_t tensor = 1;  // processes that hold one model together
    int64_t zero_stage = 0;
  } parallel;

  std::string output;  // run directory

  /// `overrides` are KEY=VALUE with a dotted key ("train.steps=100", "data.train.0.path=x.txt"); the value is JSON, or
  /// else a string. The run directory defaults to runs/<name of the file>.
  static TrainConfig from_file(const std::string& path, const std::vector<std::string>& overrides = {});
  /// `name` stands for the file in errors.
  static TrainConfig from_json(const std::string& text, const std::vector<std::string>& overrides = {},
                               const std::string& name = "configuration");

  std::string resolved_json() const;
  /// Of resolved_json.
  std::string hash() const;

  int64_t total_steps() const;

  /// Stages that are given in epochs have this many steps until with_steps.
  static constexpr int64_t kUnknownSteps = int64_t{1} << 40;
  /// Fills in the steps of a stage, and what follows from them in its schedule. Throws UsageError when the schedule
  /// does not fit.
  void set_steps(size_t stage, int64_t steps);
};

}  // namespace ondol
