#include <ondol/train/checkpoint.h>

#include <filesystem>

#include <ondol/base/file.h>
#include <ondol/tokenizer/tokenizer.h>

#include "base/json_reader.h"
#include "train/checkpoint_files.h"
#include "train/checkpoint_manifest.h"
#include "train/ranks.h"

namespace ondol {

namespace fs = std::filesystem;

std::string write_checkpoint(const std::string& run_directory, const CheckpointParts& parts, int64_t keep) {
  const std::string target = checkpoint_path(run_directory, parts.state.step);
  try {
    write_together(target, checkpoint_files(parts), /*with_manifest=*/true, Ranks());
  } catch (const Error& error) {
    throw checkpoint_error(parts.state.step, error);
  }
  remove_old_checkpoints(run_directory, parts.state.step, keep);
  return target;
}

void write_model_directory(const std::string& directory, const Model& model, const Tokenizer* tokenizer,
                           Communicator* communicator, const HeldParts& held) {
  SaveOptions options;
  options.held = held;
  DirectoryFiles files;
  files.add(model_files(model, options));
  std::vector<std::string> prefixes = {""};
  for (const auto& [name, other] : model.attached()) {  // those that were trained with it
    if (!other->parameters().is_absorbed()) continue;
    prefixes.push_back(name + "/");
    files.add(model_files(*other, options), prefixes.back());
  }
  if (tokenizer != nullptr) {
    files.more = [&](const std::string& hidden) {
      for (const std::string& prefix : prefixes) tokenizer->save(hidden + "/" + prefix);
    };
  }
  write_together(directory, std::move(files), /*with_manifest=*/false, Ranks(communicator));
}

void copy_model_directory(const std::string& from, const std::string& directory) {
  DirectoryFiles files;
  files.more = [&](const std::string& hidden) {
    for (const auto& entry : fs::recursive_directory_iterator(from)) {
      if (!entry.is_regular_file()) continue;
      const std::string target = (fs::path(hidden) / fs::relative(entry.path(), from)).string();
      make_directories(parent_directory(target));
      const MappedFile source(entry.path().string());
      AtomicFile copy(target);
      copy.write(source.data(), source.size());
      copy.commit();
    }
  };
  write_together(directory, std::move(files), /*with_manifest=*/false, Ranks());
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
  constexpr double kMost = 0x1p60;  // counting goes on from there
  TrainerState state;
  state.step = reader.require<int64_t>("step", between(0, kMost));
  state.stage = reader.require<int64_t>("stage", between(0, kMost));
  state.stage_step = reader.require<int64_t>("stage_step", between(0, kMost));
  state.updates = reader.require<int64_t>("updates", between(0, kMost));
  state.tokens = reader.require<int64_t>("tokens", between(0, kMost));
  state.samples = reader.require<int64_t>("samples", between(0, kMost));
  state.seconds = reader.require<double>("seconds");
  state.seed = reader.require<uint64_t>("seed");
  state.data_position = reader.has("data_position") ? reader.raw("data_position").dump() : "";
  state.model_fingerprint = reader.require<std::string>("model_fingerprint");
  state.config_hash = reader.require<std::string>("config_hash");
  if (reader.has("best")) {
    const JsonReader best = reader.child("best");
    state.best_step = best.require<int64_t>("step", between(1, kMost));
    state.best_value = best.require<double>("value");
  }
  state.evaluations_since_best = reader.get<int64_t>("evaluations_since_best", 0, between(0, kMost));
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
    const bool stale = name.starts_with(".checkpoint-") || name.starts_with(".final.") || name.starts_with(".best-") ||
                       name.starts_with(".predictions.jsonl.") || name.starts_with(".report.json.") ||
                       name.starts_with(".metrics.jsonl.") || name.starts_with(".config.json.");
    const bool result = checkpoint_step(name) >= 0 || name == "final" || name.starts_with("best-") ||
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
