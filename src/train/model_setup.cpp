#include "train/model_setup.h"

#include <filesystem>

#include <ondol/base/file.h>
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

/// The head that the first stage asks for; later ones are checked against it.
std::optional<HeadRequest> wanted_head(const TrainConfig& config) {
  const StageConfig& first = config.stages.front();
  const std::string& source = config.model.from.empty() ? config.model.config : config.model.from;
  const RecordScan scan = [&first](const std::function<void(const Record&)>& visit) {
    for_each_training_record(first.data, visit);
  };
  return make_objective(first.objective)->head(*outline_model(source), scan);
}

std::unique_ptr<Model> build(const TrainConfig& config, const std::string& device, const std::string& checkpoint) {
  // An adapter's base and head, too, are made anew before the adapter's values are read: its checkpoints do not hold
  // them.
  const bool from_base = checkpoint.empty() || config.lora;
  const std::optional<HeadRequest> head = from_base ? wanted_head(config) : std::nullopt;
  const ModelExtension extend = [&config, &head](Model& model) {
    for (const StageConfig& stage : config.stages) make_objective(stage.objective)->extend(model);
    if (config.lora) {
      LoraConfig lora = *config.lora;
      if (head && lora.modules_to_save.empty()) lora.modules_to_save = head_modules(model);
      add_lora(model, lora, fs::absolute(config.model.from).lexically_normal().string());
    } else {
      choose_trainable(model, config.freeze);
    }
  };
  if (is_adapter(config.model.from)) {
    throw UsageError(concat("model.from is an adapter (", config.model.from, ")"),
                     concat("merge it first: ondol convert --merge-adapter ", config.model.from, " BASE DST"));
  }
  const std::string& directory = from_base ? config.model.from : checkpoint;
  if (directory.empty()) {
    return create_model(config.model.config, DType::f32, resolve_device(device), config.seed, extend, head);
  }
  std::unique_ptr<Model> model = load_model(directory, {.device = device,
                                                        .dtype = DType::f32,
                                                        .keep_quantized = config.lora.has_value(),
                                                        .extend = extend,
                                                        .head = head,
                                                        .seed = config.seed});
  if (!checkpoint.empty() && config.lora) AdapterFile(checkpoint).read_into(*model);
  if (!checkpoint.empty()) load_extras(checkpoint, model->parameters());
  return model;
}

}  // namespace

std::string tokenizer_path(const TrainConfig& config) {
  if (!config.tokenizer.empty()) return config.tokenizer;
  return !config.model.from.empty() && has_tokenizer(config.model.from) ? config.model.from : "";
}

TrainingModel make_training_model(const TrainConfig& config, const std::string& device, const std::string& checkpoint) {
  TrainingModel made;
  made.model = build(config, device, checkpoint);
  ModelOrigin origin{.kind = ModelOrigin::drawn, .tokenizer = tokenizer_path(config), .seed = config.seed};
  if (!config.model.from.empty()) origin.kind = ModelOrigin::files;
  if (!checkpoint.empty()) origin.kind = ModelOrigin::checkpoint;
  for (const StageConfig& stage : config.stages) make_objective(stage.objective)->set_up(*made.model, origin);
  ParameterStore& parameters = made.model->parameters();
  Tensor master;
  if (config.dtype != DType::f32) {  // the buffer of f32 values becomes the master
    const Tensor values = parameters.flat_values();
    master = parameters.trainable_values();
    parameters.materialize(config.dtype, values.device());
    if (master.numel() < values.numel()) {
      parameters.flat_values().copy_from(values);
      master = master.clone();  // the values that stay as they are need not be kept in f32
    }
  }
  made.optimizer = make_optimizer(config.optimizer, parameters, master,
                                  parameter_spans(config.optimizer, *made.model, config.unfreeze.given()));
  made.optimizer->publish();
  if (!checkpoint.empty()) load_optimizer(checkpoint, parameters, *made.optimizer);
  return made;
}

std::unique_ptr<Model> outline_training_model(const TrainConfig& config) {
  return outline_model(config.model.from.empty() ? config.model.config : config.model.from, wanted_head(config));
}

std::string model_fingerprint(const TrainConfig& config) {
  const fs::path source(config.model.config.empty() ? config.model.from : config.model.config);
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
