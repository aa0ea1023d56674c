#include "train/config_reader.h"

#include <bit>

#include <algorithm>

#include <ondol/train/objective.h>

#include "data/data_config.h"
#include "train/ramps.h"

namespace ondol {

namespace {

constexpr double kDecayFraction = 0.1;
constexpr int64_t kTimescale = 10000;
// Limits far beyond any run, so that no product or sum of counts can overflow.
constexpr double kMostSteps = 0x1p40;
constexpr double kMostSamples = 0x1p30;

DataConfig read_data(const JsonReader& data) {
  DataConfig config = read_data_config(data);
  if (config.train.empty()) data.fail("train", "names no data", R"(for example [{"path": "corpus/*.txt"}])");
  if (config.validation_fraction > 0.0 && !config.validation.empty()) {
    data.fail("validation_fraction", "data.validation is given already");
  }
  return config;
}

/// The keys that some types of optimizers have and others have not.
void check_optimizer_keys(const JsonReader& reader, const std::string& type) {
  const std::pair<const char*, std::vector<std::string>> owners[] = {{"betas", {"adamw", "lamb", "lion"}},
                                                                     {"eps", {"adamw", "lamb"}},
                                                                     {"momentum", {"sgd"}},
                                                                     {"nesterov", {"sgd"}},
                                                                     {"eps1", {"adafactor"}},
                                                                     {"eps2", {"adafactor"}},
                                                                     {"clip_threshold", {"adafactor"}},
                                                                     {"decay_rate", {"adafactor"}},
                                                                     {"beta1", {"adafactor"}},
                                                                     {"scale_parameter", {"adafactor"}},
                                                                     {"relative_step", {"adafactor"}},
                                                                     {"warmup_init", {"adafactor"}}};
  for (const auto& [key, types] : owners) {
    reader.accept(key);
    if (!reader.has(key) || std::find(types.begin(), types.end(), type) != types.end()) continue;
    std::string names;
    for (const std::string& name : types) names += concat(names.empty() ? "" : ", ", "\"", name, "\"");
    reader.fail(key, concat("only optimizer.type ", names, types.size() == 1 ? " has it" : " have it"));
  }
}

OptimizerConfig::Adafactor read_adafactor(const JsonReader& reader) {
  OptimizerConfig::Adafactor config;
  config.eps1 = reader.get("eps1", config.eps1, above(0.0));
  config.eps2 = reader.get("eps2", config.eps2, at_least(0.0));
  config.clip_threshold = reader.get("clip_threshold", config.clip_threshold, above(0.0));
  config.decay_rate = reader.get("decay_rate", config.decay_rate, between(-1.0, 0.0));
  config.beta1 = reader.get("beta1", config.beta1, half_open(0.0, 1.0));
  config.scale_parameter = reader.get("scale_parameter", config.scale_parameter);
  config.relative_step = reader.get("relative_step", config.relative_step);
  config.warmup_init = reader.get("warmup_init", config.warmup_init);
  if (config.warmup_init && !config.relative_step) reader.fail("warmup_init", "needs optimizer.relative_step");
  return config;
}

std::vector<OptimizerConfig::Group> read_groups(const JsonReader& reader, double learning_rate) {
  std::vector<OptimizerConfig::Group> groups;
  for (const JsonReader& entry : reader.children("groups")) {
    OptimizerConfig::Group group;
    group.match = entry.require<std::string>("match");
    entry.accept("learning_rate");
    entry.accept("weight_decay");
    if (entry.has("learning_rate")) group.learning_rate = entry.require<double>("learning_rate", at_least(0.0));
    if (entry.has("weight_decay")) group.weight_decay = entry.require<double>("weight_decay", at_least(0.0));
    if (!group.learning_rate && !group.weight_decay)
      entry.fail("match", "the group has neither learning_rate nor weight_decay");
    if (group.learning_rate && learning_rate == 0.0) entry.fail("learning_rate", "optimizer.learning_rate is 0");
    groups.push_back(group);
  }
  return groups;
}

OptimizerConfig read_optimizer(const JsonReader& reader) {
  OptimizerConfig config;
  config.type = reader.get_enum("type", config.type, {"adamw", "sgd", "lion", "lamb", "adafactor"});
  check_optimizer_keys(reader, config.type);
  if (config.type == "lion") config.beta2 = 0.99;
  if (config.type == "lamb") config.eps = 1e-6;
  if (config.type == "adafactor") {
    config.weight_decay = 0.0;
    config.adafactor = read_adafactor(reader);
  }
  config.learning_rate = reader.get("learning_rate", config.learning_rate, at_least(0.0));
  config.weight_decay = reader.get("weight_decay", config.weight_decay, at_least(0.0));
  config.decay = reader.get_enum("decay", config.decay, {"matrices", "all"});
  const auto betas = reader.get<std::vector<double>>("betas", {config.beta1, config.beta2}, half_open(0.0, 1.0));
  if (betas.size() != 2) reader.fail("betas", "expected two numbers");
  config.beta1 = betas[0];
  config.beta2 = betas[1];
  config.eps = reader.get("eps", config.eps, above(0.0));
  config.momentum = reader.get("momentum", config.momentum, half_open(0.0, 1.0));
  config.nesterov = reader.get("nesterov", config.nesterov);
  config.ema_decay = reader.get("ema_decay", config.ema_decay, half_open(0.0, 1.0));
  if (config.nesterov && config.momentum == 0.0) reader.fail("nesterov", "needs optimizer.momentum above 0");
  config.layer_decay = reader.get("layer_decay", config.layer_decay, {.low = 0.0, .high = 1.0, .low_open = true});
  config.groups = read_groups(reader, config.learning_rate);
  return config;
}

LoraConfig read_lora(const JsonReader& reader) {
  LoraConfig config;
  config.rank = reader.get<int64_t>("rank", config.rank, between(1, 1 << 16));
  config.alpha = reader.get("alpha", config.alpha, above(0.0));
  config.dropout = reader.get("dropout", config.dropout, half_open(0.0, 1.0));
  config.rank_stabilized = reader.get("rank_stabilized", config.rank_stabilized);
  config.targets = reader.require<std::vector<std::string>>("targets");
  config.modules_to_save = reader.get<std::vector<std::string>>("modules_to_save", {});
  if (config.targets.empty()) reader.fail("targets", "names no layer", "for example [\"q_proj\", \"v_proj\"]");
  return config;
}

ScheduleConfig read_schedule(const JsonReader& reader, int64_t stage_steps, double learning_rate) {
  ScheduleConfig config;
  config.type = reader.get_enum(
      "type", config.type,
      {"constant", "linear", "cosine", "cosine_restarts", "wsd", "inverse_sqrt", "polynomial", "slanted_triangular"});
  config.steps = reader.get<int64_t>("steps", stage_steps, between(1, kMostSteps));
  config.warmup_steps = reader.get<int64_t>("warmup_steps", 0, at_least(0));
  if (config.warmup_steps > config.steps) {
    reader.fail("warmup_steps", concat(config.warmup_steps, " steps of warm-up in a schedule of ", config.steps));
  }
  config.min_learning_rate = reader.get("min_learning_rate", 0.0, at_least(0.0));
  if (config.min_learning_rate > learning_rate) {
    reader.fail("min_learning_rate",
                concat("is above optimizer.learning_rate (", config.min_learning_rate, " > ", learning_rate, ")"));
  }
  const bool wsd = config.type == "wsd";
  for (const char* key : {"decay_steps", "decay_fraction", "decay_shape"}) {
    if (reader.has(key) && !wsd) reader.fail(key, "only schedule.type \"wsd\" has it");
  }
  if (reader.has("decay_steps") && reader.has("decay_fraction")) {
    reader.fail("decay_fraction", "schedule.decay_steps is given already");
  }
  if (wsd && stage_steps == TrainConfig::kUnknownSteps && !reader.has("decay_steps")) {
    reader.fail("decay_fraction", "with train.epochs the decay is given in schedule.decay_steps");
  }
  const double fraction = reader.get("decay_fraction", kDecayFraction, between(0.0, 1.0));
  const auto share = static_cast<int64_t>(fraction * static_cast<double>(config.steps) + 0.5);
  const int64_t decay_steps = reader.get<int64_t>("decay_steps", share, between(0, kMostSteps));
  config.decay_shape = reader.get_enum("decay_shape", config.decay_shape, {"linear", "cosine", "sqrt"});
  if (wsd) {
    config.decay_steps = decay_steps;
    if (config.warmup_steps + decay_steps > config.steps) {
      reader.fail("decay_steps", concat("warm-up (", config.warmup_steps, ") and decay (", decay_steps,
                                        ") do not fit into ", config.steps, " steps"));
    }
  }
  for (const char* key : {"cut_fraction", "ratio"}) {
    if (reader.has(key) && config.type != "slanted_triangular") {
      reader.fail(key, "only schedule.type \"slanted_triangular\" has it");
    }
  }
  config.cut_fraction = reader.get("cut_fraction", config.cut_fraction, {.low = 0.0, .high = 1.0, .low_open = true});
  config.ratio = reader.get("ratio", config.ratio, at_least(1.0));
  if (config.type == "slanted_triangular") {
    for (const char* key : {"warmup_steps", "min_learning_rate"}) {
      if (reader.has(key)) reader.fail(key, "schedule.type \"slanted_triangular\" has cut_fraction and ratio instead");
    }
  }
  if (reader.has("power") && config.type != "polynomial") {
    reader.fail("power", "only schedule.type \"polynomial\" has it");
  }
  config.power = reader.get("power", config.power, above(0.0));
  if (reader.has("timescale") && config.type != "inverse_sqrt") {
    reader.fail("timescale", "only schedule.type \"inverse_sqrt\" has it");
  }
  const int64_t timescale = config.warmup_steps > 0 ? config.warmup_steps : kTimescale;
  config.timescale = reader.get<int64_t>("timescale", timescale, between(1, kMostSteps));
  if (reader.has("cycle_steps") != (config.type == "cosine_restarts")) {
    reader.fail("cycle_steps", "schedule.type \"cosine_restarts\" alone has and needs it");
  }
  if (config.type == "cosine_restarts") {
    config.timescale = reader.require<int64_t>("cycle_steps", between(1, kMostSteps));
  }
  return config;
}

RampConfig read_ramp(const JsonReader& train, const char* key, int64_t stage_steps) {
  RampConfig ramp;
  if (!train.has(key)) return ramp;
  const JsonReader reader = train.child(key);
  ramp.start = reader.require<int64_t>("start", at_least(1));
  ramp.steps = reader.require<int64_t>("steps", between(1, static_cast<double>(stage_steps)));
  return ramp;
}

/// batch_ramp and length_ramp; their ends are batch_size and data.sequence_length.
void read_ramps(const JsonReader& train, StageConfig& stage) {
  stage.batch_ramp = read_ramp(train, "batch_ramp", stage.steps);
  stage.length_ramp = read_ramp(train, "length_ramp", stage.steps);
  const int64_t batch = stage.batch_ramp.start, length = stage.length_ramp.start, full = stage.data.sequence_length;
  if (batch > stage.batch_size || batch % stage.micro_batch_size != 0) {
    train.fail("batch_ramp", concat("begins with ", batch, " samples, which must be a multiple of micro_batch_size (",
                                    stage.micro_batch_size, ") and at most batch_size (", stage.batch_size, ")"));
  }
  if (length > 0 && (full % length != 0 || !std::has_single_bit(static_cast<uint64_t>(full / length)))) {
    train.fail("length_ramp",
               concat("begins with ", length, " tokens, from which doubling does not lead to data.sequence_length (",
                      full, ")"));
  }
  if (length > 0 && !stage.data.packing) train.fail("length_ramp", "needs data.packing");
}

/// What a stage changes about the positions of a rotary model.
void read_positions(const JsonReader& model, StageConfig& stage) {
  if (model.has("rope_theta")) stage.rope_theta = model.require<double>("rope_theta", above(0.0));
  if (model.has("max_position_embeddings")) {
    stage.max_positions = model.require<int64_t>("max_position_embeddings", between(1, 1 << 28));
  }
}

StageConfig read_stage(const JsonReader& root, double learning_rate) {
  StageConfig stage;
  const JsonReader train = root.require_child("train");
  if (train.has("epochs")) stage.epochs = train.require<double>("epochs", {.low = 0.0, .high = 1e9, .low_open = true});
  stage.steps = stage.epochs > 0.0 ? train.get<int64_t>("steps", TrainConfig::kUnknownSteps, between(1, kMostSteps))
                                   : train.require<int64_t>("steps", between(1, kMostSteps));
  stage.batch_size = train.require<int64_t>("batch_size", between(1, kMostSamples));
  stage.micro_batch_size = train.get<int64_t>("micro_batch_size", stage.batch_size, at_least(1));
  if (stage.batch_size % stage.micro_batch_size != 0) {
    train.fail("micro_batch_size",
               concat("must divide train.batch_size (", stage.batch_size, "), got ", stage.micro_batch_size));
  }
  stage.data = read_data(root.require_child("data"));
  read_ramps(train, stage);
  read_positions(root.child("model"), stage);
  const bool known = stage.steps != TrainConfig::kUnknownSteps;
  if (stage.data.mixture_samples == 0 && known) stage.data.mixture_samples = count_stage_samples(stage);
  stage.learning_rate = learning_rate;
  stage.schedule = read_schedule(root.child("schedule"), stage.steps, learning_rate);
  stage.objective = make_objective(root.child("objective"))->settings();
  return stage;
}

/// All of a document without "stages".
TrainConfig read_single(const Json& document, const std::string& name) {
  const JsonReader root(document, name);
  TrainConfig config;
  const JsonReader model = root.require_child("model");
  config.model.config = model.get<std::string>("config", "");
  config.model.from = model.get<std::string>("from", "");
  if (config.model.config.empty() == config.model.from.empty()) {
    root.fail("model", "needs either \"config\" (train from scratch) or \"from\" (fine-tune)");
  }
  config.tokenizer = root.child("tokenizer").get<std::string>("path", "");
  config.optimizer = read_optimizer(root.child("optimizer"));
  config.stages.push_back(read_stage(root, config.optimizer.learning_rate));

  const JsonReader train = root.child("train");
  config.max_grad_norm = train.get("max_grad_norm", config.max_grad_norm, at_least(0.0));
  config.label_smoothing = train.get("label_smoothing", config.label_smoothing, half_open(0.0, 1.0));
  config.dtype = dtype_from_name(train.get_enum("dtype", "f32", {"f32", "bf16"}));
  config.seed = train.get<uint64_t>("seed", config.seed);
  config.freeze.patterns = train.get<std::vector<std::string>>("freeze", {});
  config.freeze.layers = train.get<int64_t>("freeze_layers", 0, at_least(0));
  if (train.has("gradual_unfreezing")) {
    const JsonReader unfreeze = train.child("gradual_unfreezing");
    config.unfreeze.steps = unfreeze.get<int64_t>("steps", 0, between(1, kMostSteps));
    config.unfreeze.epochs = unfreeze.get("epochs", 0.0, {.low = 0.0, .high = 1e9, .low_open = true});
    if (unfreeze.has("steps") == unfreeze.has("epochs")) {
      train.fail("gradual_unfreezing", "needs either \"steps\" or \"epochs\"", "for example {\"epochs\": 1}");
    }
  }
  config.gradient_checkpointing = train.get("gradient_checkpointing", config.gradient_checkpointing);
  config.deterministic = train.get("deterministic", config.deterministic);
  config.on_non_finite = train.get_enum("on_non_finite", config.on_non_finite, {"stop", "skip"});

  if (root.has("lora")) {
    config.lora = read_lora(root.child("lora"));
    if (config.model.from.empty()) root.fail("lora", "adapters need a trained model: give model.from");
    for (const char* key : {"freeze", "freeze_layers"}) {
      if (train.has(key)) train.fail(key, "the model's own weights are not trained anyway: there is a lora section");
    }
  }

  const JsonReader evaluation = root.child("evaluation");
  config.evaluation.every = evaluation.get<int64_t>("every", config.evaluation.every, at_least(0));
  config.evaluation.batches = evaluation.get<int64_t>("batches", config.evaluation.batches, between(0, kMostSamples));
  config.evaluation.metric = evaluation.get<std::string>("metric", config.evaluation.metric);
  config.evaluation.keep_best = evaluation.get("keep_best", config.evaluation.keep_best);
  config.evaluation.patience = evaluation.get<int64_t>("patience", config.evaluation.patience, at_least(0));
  if (config.evaluation.every == 0 && (config.evaluation.keep_best || config.evaluation.patience > 0)) {
    evaluation.fail(config.evaluation.keep_best ? "keep_best" : "patience", "needs evaluation.every");
  }
  if (config.evaluation.keep_best && config.optimizer.ema_decay > 0.0) {
    evaluation.fail("keep_best",
                    "is chosen among the weights themselves, optimizer.ema_decay would write their average");
  }
  const DataConfig& data = config.stages.front().data;
  if (config.evaluation.every > 0 && data.validation.empty() && data.validation_fraction == 0.0) {
    evaluation.fail("every", "there is no validation data", "give data.validation or data.validation_fraction");
  }

  const JsonReader checkpoint = root.child("checkpoint");
  config.checkpoint.every = checkpoint.get<int64_t>("every", config.checkpoint.every, at_least(0));
  config.checkpoint.keep = checkpoint.get<int64_t>("keep", config.checkpoint.keep, at_least(0));
  config.checkpoint.allow_changed_data = checkpoint.get("allow_changed_data", config.checkpoint.allow_changed_data);
  config.checkpoint.background = checkpoint.get("background", config.checkpoint.background);

  const JsonReader logging = root.child("logging");
  config.logging.every = logging.get<int64_t>("every", config.logging.every, at_least(1));
  config.logging.tensorboard = logging.get("tensorboard", config.logging.tensorboard);
  config.logging.peak_flops = logging.get("peak_flops", config.logging.peak_flops, at_least(0.0));

  const JsonReader parallel = root.child("parallel");
  config.parallel.data = parallel.get<int64_t>("data", config.parallel.data, at_least(1));
  config.parallel.tensor = parallel.get<int64_t>("tensor", config.parallel.tensor, between(1, 1 << 16));
  config.parallel.zero_stage = parallel.get<int64_t>("zero_stage", config.parallel.zero_stage, between(0, 3));
  const std::string& optimizer = config.optimizer.type;
  if (config.parallel.zero_stage > 0 && (optimizer == "lamb" || optimizer == "adafactor")) {
    parallel.fail("zero_stage", concat("optimizer.type \"", optimizer, "\" needs whole tensors, which no process has"));
  }
  config.output = root.get<std::string>("output", "");
  root.finish();
  return config;
}

/// What a stage may say; the rest of a run is the same from beginning to end.
void check_stage_keys(const JsonReader& stage) {
  for (const char* section : {"data", "schedule", "objective"}) stage.raw(section);
  const JsonReader train = stage.child("train");
  for (const char* key : {"steps", "epochs", "batch_size", "micro_batch_size"}) train.accept(key);
  for (const char* section : {"batch_ramp", "length_ramp"}) train.raw(section);
  for (const char* key : {"rope_theta", "max_position_embeddings"}) stage.child("model").accept(key);
  stage.child("optimizer").accept("learning_rate");
}

}  // namespace

TrainConfig read_train_config(const Json& document, const std::string& name) {
  if (!document.is_object() || !document.contains("stages")) return read_single(document, name);
  if (document["stages"].is_null()) {
    Json without = document;
    without.erase("stages");
    return read_single(without, name);
  }

  Json base = document;
  base.erase("stages");
  Json stages_only;
  stages_only["stages"] = document["stages"];
  const JsonReader reader(stages_only, name);
  const std::vector<JsonReader> stages = reader.children("stages");
  if (stages.empty()) reader.fail("stages", "expected at least one stage");
  TrainConfig config;
  for (size_t i = 0; i < stages.size(); ++i) {
    check_stage_keys(stages[i]);
    Json merged = base;
    merged.merge_patch(stages[i].object());
    const Json train = stages[i].object().value("train", Json::object());
    if (train.is_object() && train.contains("epochs") != train.contains("steps")) {  // one takes the other's place
      merged["train"].erase(train.contains("epochs") ? "steps" : "epochs");
    }
    TrainConfig single = read_single(merged, concat(name, ", stage ", i));
    if (i == 0) {
      config = std::move(single);
    } else {
      config.stages.push_back(std::move(single.stages.front()));
    }
  }
  reader.finish();
  return config;
}

}  // namespace ondol
