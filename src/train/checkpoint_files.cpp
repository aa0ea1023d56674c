#include "train/checkpoint_files.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <ondol/base/file.h>
#include <ondol/tokenizer/tokenizer.h>

#include "base/json_reader.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;
constexpr const char* kPrefix = "checkpoint-";

std::string state_json(const TrainerState& state) {
  nlohmann::ordered_json out;
  out["format"] = 1;
  out["step"] = state.step;
  out["stage"] = state.stage;
  out["stage_step"] = state.stage_step;
  out["updates"] = state.updates;
  out["tokens"] = state.tokens;
  out["samples"] = state.samples;
  out["seconds"] = state.seconds;
  out["seed"] = state.seed;
  out["data_position"] = state.data_position.empty() ? Json() : Json::parse(state.data_position);
  out["model_fingerprint"] = state.model_fingerprint;
  out["config_hash"] = state.config_hash;
  if (state.best_step > 0) out["best"] = {{"step", state.best_step}, {"value", state.best_value}};
  out["evaluations_since_best"] = state.evaluations_since_best;
  return out.dump(2) + "\n";
}

/// Parameters that no file of the model holds, in f32: as they are read, before they are rounded to the model's dtype.
std::vector<TensorSlices> extras_of(const CheckpointParts& parts) {
  std::vector<TensorSlices> extras;
  const ParameterStore& store = parts.model.parameters();
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (!is_of_the_training(entry)) continue;
    if (parts.held) {
      extras.push_back({entry.name, entry.shape, DType::f32, parts.held(entry.slot())});
    } else {
      extras.push_back(whole_tensor(entry.name, entry.slice(store.flat_values())));
      extras.back().dtype = DType::f32;
    }
  }
  return extras;
}

}  // namespace

bool is_of_the_training(const ParameterStore::Entry& entry) {
  return entry.is_extra() && !entry.name.starts_with("lora.");
}

std::string layout_of(const ParameterStore& store) {
  std::string text;
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (!entry.trainable) continue;
    text += concat(entry.name, " ", entry.whole_shape(), " ", entry.whole_offset, "\n");
  }
  return concat(store.whole_trainable_elements(), "-", crc32(0, text.data(), text.size()));
}

DirectoryFiles checkpoint_files(const CheckpointParts& parts) {
  DirectoryFiles files;
  SaveOptions options;
  options.held = parts.held;
  files.add(model_files(parts.model, options));
  std::vector<TensorSlices> extras = extras_of(parts);
  if (!extras.empty()) files.sliced.push_back({kExtrasFile, std::move(extras)});
  std::vector<TensorSlices> optimizer = parts.optimizer.state_slices();
  if (parts.model.dtype() != DType::f32) optimizer.insert(optimizer.begin(), parts.optimizer.master_slices());
  files.sliced.push_back(
      {kOptimizerFile, std::move(optimizer), {{"format", "pt"}, {"layout", layout_of(parts.model.parameters())}}});
  files.texts.push_back({kStateFile, state_json(parts.state)});
  if (parts.tokenizer != nullptr) {
    files.more = [tokenizer = parts.tokenizer](const std::string& directory) { tokenizer->save(directory); };
  }
  return files;
}

std::string checkpoint_path(const std::string& run_directory, int64_t step) {
  return concat(run_directory, "/", kPrefix, step);
}

int64_t checkpoint_step(const std::string& name) {
  int64_t step = -1;
  const std::string_view digits =
      std::string_view(name).substr(std::min(name.size(), std::string_view(kPrefix).size()));
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool whole = name.starts_with(kPrefix) && error == std::errc() && end == digits.data() + digits.size();
  return whole ? step : -1;
}

std::vector<int64_t> checkpoint_steps(const std::string& run_directory) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run_directory, error)) {
    const int64_t step = checkpoint_step(entry.path().filename().string());
    if (step >= 0 && entry.is_directory()) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

void remove_old_checkpoints(const std::string& run_directory, int64_t step, int64_t keep) {
  int64_t kept = 0;
  for (const int64_t other : checkpoint_steps(run_directory)) {
    if (other > step || (keep > 0 && kept == keep)) {
      remove_directory(checkpoint_path(run_directory, other));
    } else {
      ++kept;
    }
  }
}

Error checkpoint_error(int64_t step, const Error& error) {
  return Error(concat("checkpoint of step ", step, " was not written: ", error.what()),
               "earlier checkpoints are intact; the same command continues from the newest");
}

}  // namespace ondol
