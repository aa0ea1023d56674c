#include <ondol/train/checkpoint.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <unistd.h>

#include <ondol/base/file.h>
#include <ondol/tokenizer/tokenizer.h>

#include "base/json_reader.h"
#include "train/checkpoint_manifest.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;
constexpr const char* kPrefix = "checkpoint-";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kExtrasFile = "extra.safetensors";
constexpr const char* kStateFile = "trainer_state.json";

/// RUN/.NAME.tmp-PROCESS: hidden, and removed by the next run if this one dies.
std::string hidden_name(const std::string& directory, const char* purpose) {
  const fs::path path(directory);
  return concat((path.parent_path() / ("." + path.filename().string())).string(), ".", purpose, "-", ::getpid());
}

/// Puts a finished directory in place of another. Nothing is lost when the process dies in between: the name is then
/// absent for a moment, but never half filled.
void replace_directory(const std::string& finished, const std::string& target) {
  const std::string old = hidden_name(target, "old");
  if (fs::exists(target)) rename_durable(target, old);
  rename_durable(finished, target);
  std::error_code ignored;
  fs::remove_all(old, ignored);
}

/// Fills a hidden directory and renames it. On failure the hidden directory goes away.
template <class Fill>
void write_directory(const std::string& target, const Fill& fill) {
  const std::string hidden = hidden_name(target, "tmp");
  std::error_code ignored;
  fs::remove_all(hidden, ignored);
  try {
    make_directories(hidden);
    fill(hidden);
    sync_directory(hidden);
    replace_directory(hidden, target);
  } catch (...) {
    fs::remove_all(hidden, ignored);
    throw;
  }
}

void remove_directory(const std::string& directory) {
  const std::string hidden = hidden_name(directory, "old");
  std::error_code ignored;
  fs::remove_all(hidden, ignored);
  fs::rename(directory, hidden, ignored);  // first out of sight, so that no half of it is ever taken for a checkpoint
  fs::remove_all(hidden, ignored);
}

int64_t step_of(const std::string& name) {
  int64_t step = -1;
  const std::string_view digits =
      std::string_view(name).substr(std::min(name.size(), std::string_view(kPrefix).size()));
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool whole = name.starts_with(kPrefix) && error == std::errc() && end == digits.data() + digits.size();
  return whole ? step : -1;
}

/// Steps of the checkpoints of a run, newest first.
std::vector<int64_t> checkpoint_steps(const std::string& run_directory) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run_directory, error)) {
    const int64_t step = step_of(entry.path().filename().string());
    if (step >= 0 && entry.is_directory()) steps.push_back(step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string checkpoint_path(const std::string& run_directory, int64_t step) {
  return concat(run_directory, "/", kPrefix, step);
}

/// Names, shapes and places of what is trained, so that flat tensors of another layout are refused.
std::string layout_of(const ParameterStore& store) {
  std::string text;
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (!entry.trainable) continue;
    text += concat(entry.name, " ", entry.shape, " ", entry.offset, "\n");
  }
  return concat(store.trainable_elements(), "-", crc32(0, text.data(), text.size()));
}

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

void write_optimizer(const std::string& directory, const CheckpointParts& parts) {
  const NamedTensors tensors =
      parts.snapshot != nullptr ? parts.snapshot->optimizer : checkpoint_tensors(parts.model, parts.optimizer);
  SafetensorsWriteOptions options;
  options.metadata = {{"format", "pt"}, {"layout", layout_of(parts.model.parameters())}};
  write_safetensors(directory + "/" + kOptimizerFile, tensors, options);
}

/// Those of adapters are saved with the model.
bool is_of_the_training(const ParameterStore::Entry& entry) {
  return entry.is_extra() && !entry.name.starts_with("lora.");
}

/// Parameters that no file of the model holds; no file when there are none.
void write_extras(const std::string& directory, const ParameterStore& store, const Tensor& values) {
  NamedTensors tensors;
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (is_of_the_training(entry)) tensors.emplace_back(entry.name, entry.slice(values));
  }
  SafetensorsWriteOptions options;
  options.floating_dtype = DType::f32;  // as they are read, before they are rounded to the model's dtype
  if (!tensors.empty()) write_safetensors(directory + "/" + kExtrasFile, tensors, options);
}

}  // namespace

NamedTensors checkpoint_tensors(const Model& model, const Optimizer& optimizer) {
  NamedTensors tensors = optimizer.state();
  if (model.dtype() != DType::f32) tensors.insert(tensors.begin(), {"master", optimizer.master()});
  return tensors;
}

std::string write_checkpoint(const std::string& run_directory, const CheckpointParts& parts, int64_t keep) {
  const std::string target = checkpoint_path(run_directory, parts.state.step);
  try {
    write_directory(target, [&](const std::string& directory) {
      SaveOptions options;
      if (parts.snapshot != nullptr) options.flat_values = parts.snapshot->values;
      save_model(parts.model, directory, options);
      const ParameterStore& parameters = parts.model.parameters();
      write_extras(directory, parameters,
                   parts.snapshot != nullptr ? parts.snapshot->values : parameters.flat_values());
      if (parts.tokenizer != nullptr) parts.tokenizer->save(directory);
      write_optimizer(directory, parts);
      write_file_atomic(directory + "/" + kStateFile, state_json(parts.state));
      write_manifest(directory);
    });
  } catch (const Error& error) {
    throw Error(concat("checkpoint of step ", parts.state.step, " was not written: ", error.what()),
                "earlier checkpoints are intact; the same command continues from the newest");
  }
  // Checkpoints of later steps are of a course that was given up (they were damaged, or the run went back): they may
  // neither count as kept ones nor be the newest when the run is resumed.
  int64_t kept = 0;
  for (const int64_t step : checkpoint_steps(run_directory)) {
    if (step > parts.state.step || (keep > 0 && kept == keep)) {
      remove_directory(checkpoint_path(run_directory, step));
    } else {
      ++kept;
    }
  }
  return target;
}

void write_model_directory(const std::string& directory, const Model& model, const Tokenizer* tokenizer) {
  write_directory(directory, [&](const std::string& hidden) {
    save_model(model, hidden);
    if (tokenizer != nullptr) tokenizer->save(hidden);
    for (const auto& [name, other] : model.attached()) {  // those that were trained with it
      if (!other->parameters().is_absorbed()) continue;
      save_model(*other, hidden + "/" + name);
      if (tokenizer != nullptr) tokenizer->save(hidden + "/" + name);
    }
  });
}

void copy_model_directory(const std::string& from, const std::string& directory) {
  write_directory(directory, [&](const std::string& hidden) {
    for (const auto& entry : fs::recursive_directory_iterator(from)) {
      if (!entry.is_regular_file()) continue;
      const std::string target = (fs::path(hidden) / fs::relative(entry.path(), from)).string();
      make_directories(parent_directory(target));
      const MappedFile source(entry.path().string());
      AtomicFile copy(target);
      copy.write(source.data(), source.size());
      copy.commit();
    }
  });
}

void verify_checkpoint(const std::string& directory) { verify_manifest(directory); }

std::string find_checkpoint(const std::string& run_directory,
                            const std::function<void(const std::string& reason)>& skipped) {
  for (const int64_t step : checkpoint_steps(run_directory)) {
    const std::string directory = checkpoint_path(run_directory, step);
    try {
      verify_checkpoint(directory);
      return directory;
    } catch (const Error& error) {
      skipped(error.what());
    }
  }
  return "";
}

TrainerState read_trainer_state(const std::string& directory) {
  const std::string path = directory + "/" + kStateFile;
  const Json document = load_json(path, ErrorKind::failure);
  const JsonReader reader(document, path, ErrorKind::failure);
  ONDOL_CHECK(reader.require<int64_t>("format") == 1, "unknown trainer state format (", path, ")");
  TrainerState state;
  state.step = reader.require<int64_t>("step", at_least(0));
  state.stage = reader.require<int64_t>("stage", at_least(0));
  state.stage_step = reader.require<int64_t>("stage_step", at_least(0));
  state.updates = reader.require<int64_t>("updates", at_least(0));
  state.tokens = reader.require<int64_t>("tokens", at_least(0));
  state.samples = reader.require<int64_t>("samples", at_least(0));
  state.seconds = reader.require<double>("seconds");
  state.seed = reader.require<uint64_t>("seed");
  state.data_position = reader.has("data_position") ? reader.raw("data_position").dump() : "";
  state.model_fingerprint = reader.require<std::string>("model_fingerprint");
  state.config_hash = reader.require<std::string>("config_hash");
  if (reader.has("best")) {
    const JsonReader best = reader.child("best");
    state.best_step = best.require<int64_t>("step", at_least(1));
    state.best_value = best.require<double>("value");
  }
  state.evaluations_since_best = reader.get<int64_t>("evaluations_since_best", 0, at_least(0));
  return state;
}

void load_extras(const std::string& directory, const ParameterStore& store) {
  std::optional<SafetensorsFile> file;
  for (const ParameterStore::Entry& entry : store.entries()) {
    if (!is_of_the_training(entry)) continue;
    if (!file) file.emplace(directory + "/" + kExtrasFile);
    read_slices(*file, whole_tensor(entry.name, entry.slice(store.flat_values())));
  }
  store.refresh_sums();
}

void load_optimizer(const std::string& directory, const ParameterStore& store, const Optimizer& optimizer) {
  const SafetensorsFile file(directory + "/" + kOptimizerFile);
  for (const auto& [key, value] : file.metadata()) {
    ONDOL_CHECK(key != "layout" || value == layout_of(store), "optimizer state belongs to a model of another layout (",
                file.path(), ")");
  }
  const TensorSlices master = optimizer.master_slices();
  if (file.has(master.name)) read_slices(file, master);
  optimizer.publish();
  for (const TensorSlices& slices : optimizer.state_slices()) {
    if (!file.has(slices.name)) {
      throw UsageError(
          concat("optimizer state has no \"", slices.name, "\": it was written by another optimizer (", file.path(),
                 ")"),
          "keep optimizer.type, optimizer.ema_decay and train.gradual_unfreezing, or start from the weights with "
          "model.from");
    }
    read_slices(file, slices);
  }
}

void clean_run_directory(const std::string& run_directory, bool all) {
  std::vector<fs::path> doomed;
  for (const auto& entry : fs::directory_iterator(run_directory)) {
    const std::string name = entry.path().filename().string();
    const bool stale = name.starts_with(concat(".", kPrefix)) || name.starts_with(".final.") ||
                       name.starts_with(".best-") || name.starts_with(".predictions.jsonl.") ||
                       name.starts_with(".report.json.") || name.starts_with(".metrics.jsonl.") ||
                       name.starts_with(".config.json.");
    const bool result = step_of(name) >= 0 || name == "final" || name.starts_with("best-") ||
                        name == "predictions.jsonl" || name == "report.json" || name == "metrics.jsonl" ||
                        name.starts_with("events.out.tfevents.");
    if (stale || (all && result)) doomed.push_back(entry.path());
  }
  for (const fs::path& path : doomed) {
    std::error_code error;
    fs::remove_all(path, error);
    ONDOL_CHECK(!error, "cannot remove: ", error.message(), " (", path.string(), ")");
  }
}

}  // namespace ondol
