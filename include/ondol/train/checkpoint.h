// Checkpoints: RUN/checkpoint-<step>/.
//
//   write_checkpoint("runs/a", {.model = *model, .optimizer = *optimizer, .state = state}, /*keep=*/3);
//   std::string newest = find_checkpoint("runs/a", [](const std::string& why) { ... });    // "" when there is none
//   TrainerState state = read_trainer_state(newest);
//
// A checkpoint is a model directory (config.json, model.safetensors, tokenizer files) with optimizer.safetensors (flat
// f32 tensors in the layout of the ParameterStore: master, when the model is not f32, and the optimizer's state),
// trainer_state.json and manifest.json, which lists every other file with its size and a CRC-32 for each 4 MiB. It is
// written under a hidden name, every file synced, and renamed as the last step, so that a checkpoint is there whole or
// not at all; one whose content no longer agrees with its manifest is passed over.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <ondol/models/model.h>
#include <ondol/train/optimizer.h>

namespace ondol {

class Communicator;
class Tokenizer;

/// Where a run stands after `step` optimizer steps.
struct TrainerState {
  int64_t step = 0;
  int64_t stage = 0;       // index of the stage of the next step
  int64_t stage_step = 0;  // steps done in that stage
  int64_t updates = 0;     // steps that changed the weights
  int64_t tokens = 0;      // read so far, padding excluded
  int64_t samples = 0;
  double seconds = 0.0;  // spent in steps
  uint64_t seed = 0;
  std::string data_position;      // state of the stage's data loader (JSON), with the fingerprints of its files
  std::string model_fingerprint;  // of the configuration that the model was made from
  std::string config_hash;        // of the resolved configuration
  int64_t best_step = 0;          // of the best evaluation so far; 0: none yet
  double best_value = 0.0;        // its metric
  int64_t evaluations_since_best = 0;
};

struct CheckpointParts {
  const Model& model;
  const Optimizer& optimizer;
  const Tokenizer* tokenizer = nullptr;
  TrainerState state;
  HeldParts held = {};  // of the model's values; null: all of them
};

/// Writes the checkpoint, then removes those of later steps (of a course that was given up) and the oldest ones beyond
/// `keep` (0: keeps all). Returns its directory. Throws Error naming file and reason; checkpoints written before stay
/// as they are.
std::string write_checkpoint(const std::string& run_directory, const CheckpointParts& parts, int64_t keep);

/// Writes a plain model directory in one step: it is there whole or not at all, and replaces an older one. Collective
/// over the processes of a communicator, which share the work; null: one process.
void write_model_directory(const std::string& directory, const Model& model, const Tokenizer* tokenizer,
                           Communicator* communicator = nullptr, const HeldParts& held = {});

/// The same, from another model directory, whatever files it has.
void copy_model_directory(const std::string& from, const std::string& directory);

/// Throws Error naming the first file (and the tensor in it) that is missing or differs from the manifest.
void verify_checkpoint(const std::string& directory);

/// The newest whole checkpoint of a run, "" when there is none. `skipped` hears why newer ones are passed over.
std::string find_checkpoint(const std::string& run_directory,
                            const std::function<void(const std::string& reason)>& skipped);

TrainerState read_trainer_state(const std::string& directory);

/// The values of parameters that ParameterStore::add_extra made.
void load_extras(const std::string& directory, const ParameterStore& store);

/// Master weights (when the checkpoint has them) and optimizer state, into tensors of the same layout.
void load_optimizer(const std::string& directory, const ParameterStore& store, const Optimizer& optimizer);

/// Removes what killed runs have left behind, and, when `all`, every checkpoint, final/ and the metrics.
void clean_run_directory(const std::string& run_directory, bool all);

}  // namespace ondol
