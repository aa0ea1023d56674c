#include "train/run_data.h"

#include <algorithm>

#include <ondol/train/text_encoder.h>

#include "data/record_encoder.h"
#include "train/config_json.h"
#include "train/model_setup.h"

namespace ondol {

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
  vocabulary_ = make_vocabulary(*tokenizer_);
}

RunData::Loaders RunData::make_loaders(size_t stage, const Objective& objective) const {
  const StageConfig& now = config_.stages.at(stage);
  const int64_t limit = model_.info().max_positions;
  if (limit > 0 && now.data.sequence_length > limit) {
    throw UsageError(
        concat("data.sequence_length is ", now.data.sequence_length, ", the model allows ", limit, " positions"));
  }
  DataContext context;
  context.cache_directory = cache_directory_;
  context.vocab_size = model_.info().vocab_size;
  if (tokenizer_) {
    context.encoder = &encoder_;
    context.pad_id = tokenizer_->special_token_id("pad").value_or(0);
  }
  DataConfig data = data_of(now, objective);
  const bool plain = data.sequence_length == now.data.sequence_length && data.pairs.task == SentencePairSettings::none;
  if (now.length_ramp.steps > 0 && !plain) {
    throw UsageError(concat("train.length_ramp does not go with this objective, whose samples are no plain tokens (",
                            now.objective, ")"));
  }
  const RecordContext records = record_context(now);
  context.record_encoder = objective.record_encoder(records);
  if (context.record_encoder != nullptr) data.sequence_length = records.sequence_length;
  Loaders loaders;
  loaders.records = record_fingerprint(objective, now);
  loaders.train = std::make_unique<DataLoader>(data, DataSplit::train, context);
  if (!now.data.validation.empty() || now.data.validation_fraction > 0.0) {
    if (context.record_encoder != nullptr) {
      RecordContext evaluation = records;
      evaluation.evaluation = true;
      context.record_encoder = objective.record_encoder(evaluation);
    }
    loaders.validation = std::make_unique<DataLoader>(data, DataSplit::validation, context);
  }
  return loaders;
}

RecordContext RunData::record_context(const StageConfig& stage) const {
  const int64_t length = stage.data.sequence_length;
  return {
      .model = model_, .tokenizer = tokenizer(), .sequence_length = length > 0 ? length : model_.info().max_positions};
}

uint64_t RunData::record_fingerprint(const Objective& objective, const StageConfig& stage) const {
  const auto encoder = objective.record_encoder(record_context(stage));
  return encoder == nullptr ? 0 : encoder->fingerprint();
}

void RunData::check_samples(const Objective& objective, const Loaders& loaders) const {
  const ObjectiveContext context = objective_context(0, true);
  objective.check_samples(loaders.train->example(), context);
  if (loaders.validation) objective.check_samples(loaders.validation->example(), context);
}

ObjectiveContext RunData::objective_context(int64_t step, bool training) const {
  return {.model = model_,
          .vocabulary = tokenizer_ ? &vocabulary_ : nullptr,
          .tokenizer = tokenizer(),
          .seed = config_.seed,
          .step = step,
          .training = training};
}

DataConfig RunData::data_of(const StageConfig& stage, const Objective& objective) {
  DataConfig data = stage.data;
  data.sequence_length = objective.tokens_per_sample(data.sequence_length);
  objective.choose_data(data);
  return data;
}

bool RunData::has_open(const StageConfig& stage, const Objective& objective) const {
  if (!stage_) return false;
  const DataConfig open = data_of(config_.stages[*stage_], *objective_), wanted = data_of(stage, objective);
  return data_json(open) == data_json(wanted) && open.pairs == wanted.pairs &&
         loaders_.records == record_fingerprint(objective, stage);
}

void RunData::open_stage(size_t stage, const std::string& position) {
  const StageConfig& now = config_.stages.at(stage);
  auto objective = make_objective(now.objective);
  if (!has_open(now, *objective)) loaders_ = make_loaders(stage, *objective);
  objective_ = std::move(objective);
  if (!position.empty()) loaders_.train->restore(position, config_.checkpoint.allow_changed_data);
  check_samples(*objective_, loaders_);
  stage_ = stage;
}

bool RunData::makes_files() const {
  return std::any_of(config_.stages.begin(), config_.stages.end(), [&](const StageConfig& stage) {
    return make_objective(stage.objective)->record_encoder(record_context(stage)) == nullptr;
  });
}

int64_t RunData::samples_per_epoch(size_t stage) {
  if (!stage_) open_stage(stage, "");  // reading examples takes time, and the run most likely goes on with them
  const StageConfig& wanted = config_.stages.at(stage);
  const auto objective = make_objective(wanted.objective);
  if (has_open(wanted, *objective)) return train().samples_per_epoch();
  return make_loaders(stage, *objective).train->samples_per_epoch();
}

void RunData::check_stage(size_t stage) const {
  const StageConfig& later = config_.stages.at(stage);
  const auto objective = make_objective(later.objective);
  if (has_open(later, *objective)) {
    check_samples(*objective, loaders_);
  } else {
    check_samples(*objective, make_loaders(stage, *objective));
  }
}

}  // namespace ondol
