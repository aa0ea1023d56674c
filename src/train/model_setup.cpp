#include "train/model_setup.h"

#include <filesystem>
#include <set>

#include <ondol/base/file.h>
#include <ondol/tensor/allocator.h>
#include <ondol/tokenizer/tokenizer.h>
#include <ondol/train/objective.h>

#include "base/json_reader.h"
#include "data/source_files.h"
#include "models/gguf_architecture.h"
#include "train/parameter_groups.h"
#include "train/trainable.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

const std::string& source_of(const TrainConfig& config) {
  return config.model.from.empty() ? config.model.config : config.model.from;
}

/// The adapter that the training begins with, where model.from is one: its settings are those of the run.
std::optional<AdapterFile> starting_adapter(const TrainConfig& config) {
  if (!is_adapter(config.model.from)) return std::nullopt;
  const std::string& directory = config.model.from;
  if (config.lora) {
    throw UsageError(
        concat("model.from is an adapter, which has its own rank, targets and dropout: there can be no lora ",
               "section (", directory, ")"),
        concat("or merge it first: ondol convert --merge-adapter ", directory, " BASE DST"));
  }
  if (!config.freeze.patterns.empty() || config.freeze.layers > 0) {
    throw UsageError(concat("train.freeze: the weights below an adapter are not trained anyway (", directory, ")"));
  }
  return AdapterFile(directory);
}

/// The head that the first stage asks for; later ones are checked against it.
std::optional<HeadRequest> wanted_head(const TrainConfig& config) {
  const StageConfig& first = config.stages.front();
  const std::string& source = source_of(config);
  const RecordScan scan = [&first](const std::function<void(const Record&)>& visit) {
    for_each_training_record(first.data, visit);
  };
  const std::unique_ptr<Model> outline = outline_model(source);
  const std::optional<HeadRequest> head = make_objective(first.objective)->head(*outline, scan);
  return !head && is_adapter(source) ? AdapterFile(source).head() : head;
}

std::unique_ptr<Model> build(const TrainConfig& config, const std::string& device, const std::string& checkpoint,
                             const TensorPlace& place) {
  const std::optional<AdapterFile> start = starting_adapter(config);
  const bool adapts = start || config.lora;
  const std::string base = start ? start->base() : config.model.from;
  // An adapter's base and head, too, are made anew before the adapter's values are read: its checkpoints do not hold
  // them.
  const bool from_base = checkpoint.empty() || adapts;
  const std::optional<HeadRequest> head = from_base ? wanted_head(config) : std::nullopt;
  const ModelExtension extend = [&](Model& model) {
    for (const StageConfig& stage : config.stages) make_objective(stage.objective)->extend(model);
    if (adapts) {
      LoraConfig lora = start ? start->config() : *config.lora;
      if (head && lora.modules_to_save.empty()) lora.modules_to_save = head_modules(model);
      add_lora(model, lora, fs::absolute(base).lexically_normal().string());
    } else {
      choose_trainable(model, config.freeze);
    }
    split_model(model, place);
  };
  const std::string& directory = from_base ? base : checkpoint;
  if (directory.empty()) {
    return create_model(config.model.config, DType::f32, resolve_device(device), config.seed, extend, head);
  }
  std::unique_ptr<Model> model = load_model(directory, {.device = device,
                                                        .dtype = DType::f32,
                                                        .keep_quantized = adapts,
                                                        .extend = extend,
                                                        .head = head,
                                                        .seed = config.seed});
  if (!checkpoint.empty() && adapts) {
    AdapterFile(checkpoint).read_into(*model);
  } else if (start) {
    start->read_into(*model);
  }
  if (!checkpoint.empty()) load_extras(checkpoint, model->parameters());
  return model;
}

}  // namespace

std::string tokenizer_path(const TrainConfig& config) {
  if (!config.tokenizer.empty()) return config.tokenizer;
  const std::string& from = config.model.from;
  if (from.empty() || has_tokenizer(from)) return from;
  if (!is_adapter(from)) return "";
  const std::string base = AdapterFile(from).base();
  return has_tokenizer(base) ? base : "";
}

TrainingModel make_training_model(const TrainConfig& config, const std::string& device, const std::string& checkpoint,
                                  const RankGrid& grid) {
  check_tensor_parallel(config);
  TrainingModel made;
  made.model = build(config, device, checkpoint, grid.place());
  ModelOrigin origin{.kind = ModelOrigin::drawn, .tokenizer = tokenizer_path(config), .seed = config.seed};
  if (!config.model.from.empty()) origin.kind = ModelOrigin::files;
  if (!checkpoint.empty()) origin.kind = ModelOrigin::checkpoint;
  for (const StageConfig& stage : config.stages) make_objective(stage.objective)->set_up(*made.model, origin);
  ParameterStore& parameters = made.model->parameters();
  made.sharding = make_sharding(config.parallel.zero_stage, parameters, grid);
  Tensor master;
  if (config.dtype != DType::f32) {  // the buffer of f32 values becomes the master
    const Tensor values = parameters.flat_values();
    master = parameters.trainable_values();
    parameters.materialize(config.dtype, values.device());
    if (made.sharding) {
      master = made.sharding->layout().shard_of(master);
    } else if (master.numel() < values.numel()) {
      master = master.clone();  // the values that stay as they are need not be kept in f32
    }
    parameters.flat_values().copy_from(values);
  }
  if (made.sharding && made.sharding->shares_values()) {
    made.values = std::make_unique<ValueShards>(parameters, made.sharding);
    made.values->release();
  }
  if (made.sharding) release_cached_memory(parameters.flat_values().device());  // whole buffers that were needed above
  made.optimizer =
      make_optimizer(config.optimizer, parameters, master,
                     parameter_spans(config.optimizer, *made.model, config.unfreeze.given()), made.sharding);
  made.optimizer->publish();
  if (!checkpoint.empty()) load_optimizer(checkpoint, parameters, *made.optimizer);
  return made;
}

void check_tensor_parallel(const TrainConfig& config) {
  const int64_t tensor = config.parallel.tensor;
  if (tensor == 1) return;
  const auto refuse = [&](const std::string& key) {
    throw UsageError(concat("parallel.tensor is ", tensor, ": it cannot be combined with ", key));
  };
  if (config.lora || is_adapter(config.model.from)) refuse("lora");
  const std::string& optimizer = config.optimizer.type;
  if (optimizer == "lamb" || optimizer == "adafactor") refuse(concat("optimizer.type ", optimizer));
  for (const StageConfig& stage : config.stages) {
    const Json objective = parse_json(stage.objective, "objective");
    const std::string type = objective["type"];
    const std::set<std::string> plain = {
        "classification",       "clm", "fim", "mlm", "prefix_lm", "regression", "sft", "span_corruption", "tensors",
        "token_classification", "ul2"};
    if (!plain.contains(type)) refuse(concat("objective.type ", type));
    if (objective.value("span_boundary", false)) refuse("objective.span_boundary");
  }
}

std::unique_ptr<Model> outline_training_model(const TrainConfig& config) {
  return outline_model(source_of(config), wanted_head(config));
}

std::string model_fingerprint(const TrainConfig& config) {
  const std::string& from = source_of(config);
  const fs::path source(is_adapter(from) ? AdapterFile(from).base() : from);
  if (is_gguf_file(source.string())) {
    const std::string text = read_gguf_config(GgufFile(source.string())).dump();
    return concat("crc32-", crc32(0, text.data(), text.size()));
  }
  const std::string path = (fs::is_directory(source) ? source / "config.json" : source).string();
  if (!fs::exists(path)) return "";
  const std::string text = load_json(path).dump();  // without the layout of the file
  return concat("crc32-", crc32(0, text.data(), text.size()));
}

}  // namespace ondol
