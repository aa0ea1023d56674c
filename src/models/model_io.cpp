// Models from Hugging Face directories and GGUF files, and to Hugging Face directories.
#include <algorithm>
#include <cstring>
#include <filesystem>

#include <ondol/base/file.h>
#include <ondol/models/lora.h>
#include <ondol/models/model.h>

#include "io/weight_shards.h"
#include "models/family.h"
#include "models/gguf_source.h"
#include "models/head_change.h"
#include "models/model_files.h"
#include "models/weight_matching.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;

std::string config_path_of(const std::string& path) {
  return fs::is_directory(path) ? (fs::path(path) / "config.json").string() : path;
}

/// The dtype a config names, for loading as it was saved; half precision is read as f32.
DType configured_dtype(const JsonReader& config) {
  const std::string name = config.get<std::string>("dtype", config.get<std::string>("torch_dtype", "float32"));
  return name == "bfloat16" ? DType::bf16 : DType::f32;
}

/// A model without values.
std::unique_ptr<FamilyModel> build(const JsonReader& config, DType dtype) {
  ONDOL_CHECK(dtype == DType::f32 || dtype == DType::bf16, "models run in f32 or bf16, not ", dtype_name(dtype));
  return find_family(config)(config);
}

std::unique_ptr<FamilyModel> build_directory(const std::string& path, const JsonReader& config, DType dtype) {
  std::unique_ptr<FamilyModel> model = build(config, dtype);
  const std::string generation = (fs::path(path) / "generation_config.json").string();
  if (fs::exists(generation)) model->set_generation_config(load_json(generation), generation);
  return model;
}

std::unique_ptr<FamilyModel> build_gguf(const GgufFile& file, const JsonReader& config, DType dtype) {
  try {
    return build(config, dtype);
  } catch (const Error& error) {
    throw Error(name_gguf_keys(find_gguf_architecture(file), error.what()), error.hint(), error.kind());
  }
}

HeadChange head_of(const JsonReader& config, const std::optional<HeadRequest>& request) {
  return request ? change_head(config, *request) : HeadChange{config.object()};
}

/// Makes weights whose tensors are all quantised in the file quantised parameters. The CPU can use every format.
void keep_quantized(FamilyModel& model, const WeightSource& source, const std::vector<std::string>& names, DType dtype,
                    Device device) {
  for (const ParameterStore::Entry& entry : model.parameters().entries()) {
    auto weight = std::make_shared<QuantizedWeight>();
    weight->dtype = dtype;
    for (size_t i = 0; i < names.size(); ++i) {
      const WeightSlot& slot = model.weights()[i];
      if (!slot.parameter.same_as(entry.variable) || names[i].empty()) continue;
      std::optional<QuantizedMatrix> part = source.quantized(names[i]);
      if (!part || (device.type != DeviceType::cpu && !can_quantize(part->format))) {
        weight->parts.clear();
        break;
      }
      weight->parts.push_back(part->to(device));
    }
    if (!weight->parts.empty()) entry.variable.set_quantized(std::move(weight));
  }
}

/// Whether a weight is one that training may change, frozen or not; others are buffers.
bool is_parameter(const Model& model, const WeightSlot& slot) {
  const auto& entries = model.parameters().entries();
  return std::any_of(entries.begin(), entries.end(),
                     [&](const ParameterStore::Entry& entry) { return entry.variable.same_as(slot.parameter); });
}

/// Gives a model its values. The source is checked before anything is allocated: a configuration may claim any size.
std::unique_ptr<Model> fill(std::unique_ptr<FamilyModel> model, const WeightSource& source, DType dtype, Device device,
                            const LoadOptions& options, bool keep, bool fresh_head) {
  const std::vector<std::string> names = match_weights(*model, source, fresh_head);
  if (options.extend) options.extend(*model);
  if (keep) keep_quantized(*model, source, names, dtype, device);
  model->parameters().materialize(dtype, device);
  if (fresh_head) model->parameters().initialize(options.seed);
  model->parameters().initialize_extras(options.seed);
  for (size_t i = 0; i < names.size(); ++i) {
    const WeightSlot& slot = model->weights()[i];
    if (slot.parameter.quantized() != nullptr) continue;
    const Tensor target = slot.view(slot.parameter.value());
    if (names[i].empty()) {
      if (!is_parameter(*model, slot)) target.zero();  // else it is part of a new head
      continue;
    }
    source.for_each_part(names[i], [&](const Tensor& part, int64_t row) { slot.take(target, part, row); });
  }
  return model;
}

const char* config_dtype_name(DType dtype) { return dtype == DType::bf16 ? "bfloat16" : "float32"; }

}  // namespace

std::unique_ptr<Model> load_model(const std::string& path, const LoadOptions& options) {
  if (!fs::exists(path)) {
    throw UsageError(concat("cannot load model: no such file or directory (", path, ")"));
  }
  if (is_adapter(path)) {
    const AdapterFile adapter(path);
    const std::string base = adapter.base();
    if (is_adapter(base)) throw UsageError(concat("cannot load adapter: its base is an adapter too (", path, ")"));
    LoadOptions with_adapter = options;
    if (!options.head) with_adapter.head = adapter.head();
    with_adapter.extend = [&](Model& model) {
      if (options.extend) options.extend(model);
      add_lora(model, adapter.config(), base);
    };
    std::unique_ptr<Model> model = load_model(base, with_adapter);
    adapter.read_into(*model);
    return model;
  }
  const Device device = resolve_device(options.device);
  if (fs::is_directory(path)) {
    const std::string config_path = config_path_of(path);
    const Json document = load_json(config_path);
    const HeadChange change = head_of(JsonReader(document, config_path), options.head);
    const JsonReader config(change.config, config_path);
    const DType dtype = options.dtype.value_or(configured_dtype(config));
    return fill(build_directory(path, config, dtype), SafetensorsSource(path), dtype, device, options, false,
                change.fresh);
  }
  if (!is_gguf_file(path)) {
    throw UsageError(concat("cannot load model: neither a directory nor a GGUF file (", path, ")"),
                     "models are read from Hugging Face directories and .gguf files");
  }
  const GgufFile file(path);
  const Json document = read_gguf_config(file);
  const HeadChange change = head_of(JsonReader(document, path, ErrorKind::failure), options.head);
  const JsonReader config(change.config, path, ErrorKind::failure);
  const DType dtype = options.dtype.value_or(configured_dtype(config));
  return fill(build_gguf(file, config, dtype), GgufSource(file, config), dtype, device, options, options.keep_quantized,
              change.fresh);
}

std::unique_ptr<Model> outline_model(const std::string& path, const std::optional<HeadRequest>& head) {
  if (is_adapter(path)) {
    const AdapterFile adapter(path);
    return outline_model(adapter.base(), head ? head : adapter.head());
  }
  if (is_gguf_file(path)) {
    const GgufFile file(path);
    const Json document = read_gguf_config(file);
    const HeadChange change = head_of(JsonReader(document, path, ErrorKind::failure), head);
    return build_gguf(file, JsonReader(change.config, path, ErrorKind::failure), DType::f32);
  }
  const std::string config_path = config_path_of(path);
  const Json document = load_json(config_path);
  const HeadChange change = head_of(JsonReader(document, config_path), head);
  const JsonReader config(change.config, config_path);
  return fs::is_directory(path) ? build_directory(path, config, DType::f32) : build(config, DType::f32);
}

std::unique_ptr<Model> create_model(const std::string& config_path, DType dtype, Device device, uint64_t seed,
                                    const ModelExtension& extend, const std::optional<HeadRequest>& head) {
  const std::string path = config_path_of(config_path);
  const Json document = load_json(path);
  const HeadChange change = head_of(JsonReader(document, path), head);
  std::unique_ptr<FamilyModel> model = build(JsonReader(change.config, path), dtype);
  if (extend) extend(*model);
  model->parameters().materialize(dtype, device);
  model->parameters().initialize(seed);
  return model;
}

std::unique_ptr<Model> outline_model(const std::string& config_json, const std::string& name) {
  const Json document = parse_json(config_json, name);
  return build(JsonReader(document, name), DType::f32);
}

TensorSlices weight_slices(const WeightSlot& slot, DType dtype, const HeldParts& held) {
  if (held) return {slot.name, slot.shape, dtype, held(slot)};
  const Tensor values = slot.view(slot.parameter.value());
  TensorSlices slices{slot.name, slot.shape, is_floating(values.dtype()) ? dtype : values.dtype(), {}};
  if (slot.pieces.empty()) slices.parts = whole_tensor(slot.name, values).parts;
  const int64_t row = slot.shape.ndim() == 2 ? slot.shape[1] : 1;
  for (const WeightSlot::Piece& piece : slot.pieces) {
    slices.parts.push_back({.begin = slot.split_dim == 0 ? piece.whole * row : piece.whole,
                            .values = values.narrow(slot.split_dim, piece.own, piece.length),
                            .stride = row,
                            .copies = slot.copies,
                            .copy = slot.copy});
  }
  return slices;
}

ModelFiles model_files(const Model& model, const SaveOptions& options) {
  if (model.lora() != nullptr) return adapter_files(model, options);
  const auto& family = dynamic_cast<const FamilyModel&>(model);
  const DType dtype = options.dtype.value_or(model.dtype());
  model.parameters().check_trainable();
  std::vector<TensorSlices> tensors;
  std::vector<TensorOutline> outlines;
  for (const WeightSlot& slot : model.weights()) {
    tensors.push_back(weight_slices(slot, dtype, options.held));
    outlines.push_back({slot.name, tensors.back().shape, tensors.back().dtype});
  }
  ModelFiles files;
  const WeightShards shards = shard_weights(outlines, options.max_shard_bytes);
  for (const WeightShards::File& file : shards.files) {
    files.weights.push_back({file.name, {}});
    for (const size_t tensor : file.tensors) files.weights.back().tensors.push_back(std::move(tensors[tensor]));
  }
  if (!shards.index.empty()) files.texts.push_back({kWeightsIndexName, shards.index});

  Json config = Json::parse(family.config_json());
  config["architectures"] = Json::array({model.info().architecture});
  config["model_type"] = model.info().model_type;
  config["dtype"] = config["torch_dtype"] = config_dtype_name(dtype);
  files.texts.push_back({"config.json", config.dump(2) + "\n"});
  files.texts.push_back({"generation_config.json", family.generation_config_json() + "\n"});
  return files;
}

void save_model(const Model& model, const std::string& directory, const SaveOptions& options) {
  const ModelFiles files = model_files(model, options);
  make_directories(directory);
  for (const SlicedFile& file : files.weights) {
    write_safetensors(directory + "/" + file.name, whole_outputs(file), {.metadata = file.metadata});
  }
  for (const TextFile& file : files.texts) write_file_atomic(directory + "/" + file.name, file.text);
  if (model.lora() == nullptr) remove_other_form(directory, files.weights.size() > 1);
}

}  // namespace ondol
