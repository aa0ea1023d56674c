#include "train/run_data.h"

#include <filesystem>

#include <ondol/train/text_encoder.h>

#include "train/config_json.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

/// The configured tokenizer, or that of the model directory to start from.
std::string tokenizer_path(const TrainConfig& config) {
  if (!config.tokenizer.empty()) return config.tokenizer;
  const fs::path beside = fs::path(config.model.from) / "tokenizer.json";
  return !config.model.from.empty() && fs::exists(beside) ? config.model.from : "";
}

}  // namespace

RunData::RunData(const TrainConfig& config, const Model& model, std::string cache_directory)
    : config_(config), model_(model), cache_directory_(std::move(cache_directory)) {
  const std::string path = tokenizer_path(config);
  if (path.empty()) return;
  tokenizer_ = load_tokenizer(path);
  const int64_t rows = model.info().vocab_size;
  if (tokenizer_->vocab_size() > rows) {
    throw UsageError(concat("tokenizer does not fit the model: it has ", tokenizer_->vocab_size(),
                            " tokens, the model's vocab_size is ", rows, " (", path, ")"),
                     "train a smaller tokenizer or set vocab_size in the model's configuration");
  }
  encoder_ = make_text_encoder(*tokenizer_);
}

void RunData::open_stage(size_t stage, const std::string& position) {
  const StageConfig& now = config_.stages.at(stage);
  const int64_t limit = model_.info().max_positions;
  if (limit > 0 && now.data.sequence_length > limit) {
    throw UsageError(
        concat("data.sequence_length is ", now.data.sequence_length, ", the model allows ", limit, " positions"));
  }
  const bool same_data = stage_ && data_json(config_.stages[*stage_].data) == data_json(now.data);
  if (!same_data) {
    DataContext context;
    if (tokenizer_) {
      context.encoder = &encoder_;
      context.pad_id = tokenizer_->special_token_id("pad").value_or(0);
    }
    context.cache_directory = cache_directory_;
    context.vocab_size = model_.info().vocab_size;
    train_ = std::make_unique<DataLoader>(now.data, DataSplit::train, context);
    validation_.reset();
    if (!now.data.validation.empty() || now.data.validation_fraction > 0.0) {
      validation_ = std::make_unique<DataLoader>(now.data, DataSplit::validation, context);
    }
  }
  if (!position.empty()) train_->restore(position, config_.checkpoint.allow_changed_data);
  objective_ = make_objective(now.objective);
  stage_ = stage;
}

}  // namespace ondol
