#include <ondol/train/config.h>

#include <algorithm>
#include <filesystem>

#include <ondol/base/file.h>

#include "train/config_json.h"
#include "train/config_overrides.h"
#include "train/config_reader.h"

namespace ondol {

namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson sources_json(const std::vector<DataSource>& sources) {
  OrderedJson list = OrderedJson::array();
  for (const DataSource& source : sources) {
    OrderedJson entry = {{"path", source.path}};
    if (!source.target_path.empty()) entry["target_path"] = source.target_path;
    if (!source.format.empty()) entry["format"] = source.format;
    if (source.weight) entry["weight"] = *source.weight;
    if (source.final_weight) entry["final_weight"] = *source.final_weight;
    list.push_back(entry);
  }
  return list;
}

OrderedJson optimizer_json(const OptimizerConfig& optimizer) {
  OrderedJson out = {{"type", optimizer.type}, {"learning_rate", optimizer.learning_rate}};
  if (optimizer.type == "adamw" || optimizer.type == "lamb" || optimizer.type == "lion") {
    out["betas"] = {optimizer.beta1, optimizer.beta2};
    if (optimizer.type != "lion") out["eps"] = optimizer.eps;
  } else if (optimizer.type == "adafactor") {
    const OptimizerConfig::Adafactor& a = optimizer.adafactor;
    out.update({{"eps1", a.eps1},
                {"eps2", a.eps2},
                {"clip_threshold", a.clip_threshold},
                {"decay_rate", a.decay_rate},
                {"beta1", a.beta1},
                {"scale_parameter", a.scale_parameter},
                {"relative_step", a.relative_step},
                {"warmup_init", a.warmup_init}});
  } else {
    out["momentum"] = optimizer.momentum;
    out["nesterov"] = optimizer.nesterov;
  }
  out["weight_decay"] = optimizer.weight_decay;
  out["decay"] = optimizer.decay;
  out["layer_decay"] = optimizer.layer_decay;
  out["groups"] = OrderedJson::array();
  for (const OptimizerConfig::Group& group : optimizer.groups) {
    OrderedJson entry = {{"match", group.match}};
    if (group.learning_rate) entry["learning_rate"] = *group.learning_rate;
    if (group.weight_decay) entry["weight_decay"] = *group.weight_decay;
    out["groups"].push_back(entry);
  }
  out["ema_decay"] = optimizer.ema_decay;
  return out;
}

OrderedJson schedule_json(const ScheduleConfig& schedule) {
  const bool known_steps = schedule.steps != TrainConfig::kUnknownSteps;
  OrderedJson out = {{"type", schedule.type}};
  if (known_steps) out["steps"] = schedule.steps;
  if (schedule.type == "slanted_triangular") {
    out["cut_fraction"] = schedule.cut_fraction;
    out["ratio"] = schedule.ratio;
    return out;
  }
  out["warmup_steps"] = schedule.warmup_steps;
  out["min_learning_rate"] = schedule.min_learning_rate;
  if (schedule.type == "wsd") {
    out["decay_steps"] = schedule.decay_steps;
    out["decay_shape"] = schedule.decay_shape;
  }
  if (schedule.type == "cosine_restarts") out["cycle_steps"] = schedule.timescale;
  if (schedule.type == "polynomial") out["power"] = schedule.power;
  if (schedule.type == "inverse_sqrt") out["timescale"] = schedule.timescale;
  return out;
}

OrderedJson sizes_json(const StageConfig& stage) {
  OrderedJson out;
  if (stage.epochs > 0.0) out["epochs"] = stage.epochs;
  if (stage.steps != TrainConfig::kUnknownSteps) out["steps"] = stage.steps;
  out["batch_size"] = stage.batch_size;
  out["micro_batch_size"] = stage.micro_batch_size;
  for (const auto& [key, ramp] : {std::pair{"batch_ramp", stage.batch_ramp}, {"length_ramp", stage.length_ramp}}) {
    if (ramp.steps > 0) out[key] = {{"start", ramp.start}, {"steps", ramp.steps}};
  }
  return out;
}

/// Null without any.
OrderedJson positions_json(const StageConfig& stage) {
  OrderedJson out;
  if (stage.rope_theta) out["rope_theta"] = *stage.rope_theta;
  if (stage.max_positions) out["max_position_embeddings"] = *stage.max_positions;
  return out;
}

OrderedJson stage_json(const StageConfig& stage) {
  OrderedJson out;
  out["data"] = data_json(stage.data);
  out["objective"] = OrderedJson::parse(stage.objective);
  out["optimizer"] = {{"learning_rate", stage.learning_rate}};
  out["schedule"] = schedule_json(stage.schedule);
  out["train"] = sizes_json(stage);
  if (const OrderedJson positions = positions_json(stage); !positions.is_null()) out["model"] = positions;
  return out;
}

TrainConfig read_with_overrides(Json document, const std::vector<std::string>& overrides, const std::string& name) {
  for (const std::string& text : overrides) apply_override(document, text);
  return read_train_config(document, name);
}

}  // namespace

OrderedJson data_json(const DataConfig& data) {
  OrderedJson out;
  out["train"] = sources_json(data.train);
  out["validation"] = sources_json(data.validation);
  out["validation_fraction"] = data.validation_fraction;
  if (data.sequence_length > 0) out["sequence_length"] = data.sequence_length;
  if (std::any_of(data.train.begin(), data.train.end(),
                  [](const DataSource& s) { return s.final_weight.has_value(); })) {
    out["mixture_samples"] = data.mixture_samples;
  }
  out["packing"] = data.packing;
  out["document_mask"] = data.document_mask;
  out["shuffle"] = data.shuffle;
  out["shuffle_seed"] = data.shuffle_seed;
  out["document_separator"] = data.document_separator;
  out["text_field"] = data.text_field;
  if (data.sentences != SentenceSplit::none) out["sentences"] = to_string(data.sentences);
  if (!data.fields.empty()) out["fields"] = data.fields;
  if (!data.columns.empty()) out["columns"] = data.columns;
  return out;
}

TrainConfig TrainConfig::from_file(const std::string& path, const std::vector<std::string>& overrides) {
  TrainConfig config = read_with_overrides(load_json(path), overrides, path);
  if (config.output.empty()) config.output = "runs/" + std::filesystem::path(path).stem().string();
  return config;
}

TrainConfig TrainConfig::from_json(const std::string& text, const std::vector<std::string>& overrides,
                                   const std::string& name) {
  TrainConfig config = read_with_overrides(parse_json(text, name), overrides, name);
  if (config.output.empty()) config.output = "runs/train";
  return config;
}

std::string TrainConfig::resolved_json() const {
  const StageConfig& first = stages.front();
  OrderedJson out;
  if (!model.config.empty()) out["model"]["config"] = model.config;
  if (!model.from.empty()) out["model"]["from"] = model.from;
  if (const OrderedJson positions = positions_json(first); !positions.is_null()) out["model"].update(positions);
  if (!tokenizer.empty()) out["tokenizer"]["path"] = tokenizer;
  out["data"] = data_json(first.data);
  out["objective"] = OrderedJson::parse(first.objective);
  if (lora) {
    out["lora"] = {{"rank", lora->rank},       {"alpha", lora->alpha},
                   {"dropout", lora->dropout}, {"rank_stabilized", lora->rank_stabilized},
                   {"targets", lora->targets}, {"modules_to_save", lora->modules_to_save}};
  }
  out["optimizer"] = optimizer_json(optimizer);
  out["schedule"] = schedule_json(first.schedule);
  OrderedJson train = sizes_json(first);
  train["max_grad_norm"] = max_grad_norm;
  train["label_smoothing"] = label_smoothing;
  train["dtype"] = dtype_name(dtype);
  train["seed"] = seed;
  if (!lora) {
    train["freeze"] = freeze.patterns;
    train["freeze_layers"] = freeze.layers;
  }
  if (unfreeze.epochs > 0.0) {
    train["gradual_unfreezing"] = {{"epochs", unfreeze.epochs}};
  } else if (unfreeze.steps > 0) {
    train["gradual_unfreezing"] = {{"steps", unfreeze.steps}};
  }
  train["gradient_checkpointing"] = gradient_checkpointing;
  train["deterministic"] = deterministic;
  train["on_non_finite"] = on_non_finite;
  out["train"] = train;
  out["evaluation"] = {{"every", evaluation.every},
                       {"batches", evaluation.batches},
                       {"metric", evaluation.metric},
                       {"keep_best", evaluation.keep_best},
                       {"patience", evaluation.patience}};
  out["checkpoint"] = {{"every", checkpoint.every},
                       {"keep", checkpoint.keep},
                       {"allow_changed_data", checkpoint.allow_changed_data},
                       {"background", checkpoint.background}};
  out["logging"] = {{"every", logging.every}, {"tensorboard", logging.tensorboard}, {"peak_flops", logging.peak_flops}};
  out["parallel"] = {{"data", parallel.data}, {"tensor", parallel.tensor}, {"zero_stage", parallel.zero_stage}};
  if (stages.size() > 1) {
    out["stages"] = OrderedJson::array();
    for (const StageConfig& stage : stages) out["stages"].push_back(stage_json(stage));
  }
  out["output"] = output;
  try {
    return out.dump(2) + "\n";
  } catch (const OrderedJson::type_error&) {  // texts of the command line may be any bytes
    throw UsageError("the configuration holds a text that is not UTF-8 (command line)");
  }
}

std::string TrainConfig::hash() const {
  TrainConfig settings = *this;
  settings.output.clear();  // a run is the same wherever it is written, and on any number of processes
  settings.parallel = {};
  const std::string text = settings.resolved_json();
  std::ostringstream out;
  out << std::hex << crc32(0, text.data(), text.size());
  return out.str();
}

int64_t TrainConfig::total_steps() const {
  int64_t total = 0;
  for (const StageConfig& stage : stages) total += stage.steps;
  return total;
}

void TrainConfig::set_steps(size_t stage, int64_t steps) {
  stages.at(stage).steps = steps;
  stages.at(stage).schedule = from_json(resolved_json(), {}, "train.epochs").stages.at(stage).schedule;
}

}  // namespace ondol
