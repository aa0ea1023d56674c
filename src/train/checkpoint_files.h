// What a checkpoint is made of, and which ones a run keeps.
#pragma once

#include <string>
#include <vector>

#include <ondol/train/checkpoint.h>

#include "train/directory_write.h"

namespace ondol {

inline constexpr const char* kOptimizerFile = "optimizer.safetensors";
inline constexpr const char* kExtrasFile = "extra.safetensors";
inline constexpr const char* kStateFile = "trainer_state.json";

/// Collective when the ranks hold parts: every rank states its own.
DirectoryFiles checkpoint_files(const CheckpointParts& parts);

/// Names, shapes and places of what is trained, so that flat tensors of another layout are refused.
std::string layout_of(const ParameterStore& store);
/// Whether a parameter is kept in kExtrasFile; those of adapters are saved with the model.
bool is_of_the_training(const ParameterStore::Entry& entry);

std::string checkpoint_path(const std::string& run_directory, int64_t step);
/// The step in the name of a checkpoint's directory, -1 for other names.
int64_t checkpoint_step(const std::string& name);
/// Steps of the checkpoints of a run, newest first.
std::vector<int64_t> checkpoint_steps(const std::string& run_directory);

/// Once the checkpoint of `step` is there: removes those of later steps (of a course that was given up: they were
/// damaged, or the run went back), which may neither count as kept ones nor be the newest when the run is resumed, and
/// the oldest ones beyond `keep` (0: keeps all).
void remove_old_checkpoints(const std::string& run_directory, int64_t step, int64_t keep);

/// `error` with what it means for the run.
Error checkpoint_error(int64_t step, const Error& error);

}  // namespace ondol
