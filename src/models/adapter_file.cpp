// PEFT's adapter directories: adapter_config.json and adapter_model.safetensors.
#include <filesystem>
#include <set>

#include <ondol/base/file.h>
#include <ondol/models/lora.h>
#include <ondol/ops/elementwise.h>
#include <ondol/ops/matmul.h>

#include "base/json_reader.h"
#include "models/model_files.h"
#include "models/name_pattern.h"

namespace ondol {

namespace {

namespace fs = std::filesystem;
constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kHeadFile = "head.json";  // what peft leaves to the program that loads the base
constexpr const char* kWeightsFile = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight";

std::string weights_path(const std::string& directory) {
  const std::string path = (fs::path(directory) / kWeightsFile).string();
  if (!fs::exists(path)) {
    throw UsageError(concat("cannot load adapter: no ", kWeightsFile, " (", directory, ")"),
                     "adapters in pickle files (.bin) are not read: save them as safetensors");
  }
  return path;
}

/// What is not supported, by the key that asks for it.
void check_plain(const JsonReader& reader) {
  const std::string kind = reader.require<std::string>("peft_type");
  if (kind != "LORA") reader.fail("peft_type", concat(quoted_name(kind), " is not supported, LORA is"));
  for (const char* key : {"use_dora", "lora_bias", "use_qalora"}) {
    if (reader.get<bool>(key, false)) reader.fail(key, "not supported");
  }
  const std::string bias = reader.get<std::string>("bias", "none");
  if (bias != "none") reader.fail("bias", concat(quoted_name(bias), " is not supported, none is"));
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    if (reader.has(key) && !reader.raw(key).empty())
      reader.fail(key, "not supported: all layers need one rank and alpha");
  }
}

struct HeadName {
  Head head;
  const char* name;
  const char* task;  // peft's task_type
};
constexpr HeadName kHeads[] = {{Head::sequence_classification, "sequence_classification", "SEQ_CLS"},
                               {Head::token_classification, "token_classification", "TOKEN_CLS"},
                               {Head::question_answering, "question_answering", "QUESTION_ANS"}};

const char* task_type(Head head) {
  // With the types of classifiers peft adds heads of its own choice to modules_to_save.
  if (head == Head::causal_language_model) return "CAUSAL_LM";
  return head == Head::sequence_to_sequence ? "SEQ_2_SEQ_LM" : nullptr;
}

std::optional<Head> head_of_task(const Json& task) {
  for (const HeadName& known : kHeads) {
    if (task == known.task) return known.head;
  }
  return std::nullopt;
}

/// Rows of the last product of a head that was saved whole; 0 for none.
int64_t head_outputs(const SafetensorsFile& file) {
  for (const SafetensorsEntry& entry : file.entries()) {
    const bool whole = entry.shape.ndim() == 2 && entry.name.find(".lora_") == std::string::npos;
    for (const char* last : {".score.weight", ".classifier.weight", ".out_proj.weight", ".qa_outputs.weight"}) {
      if (whole && entry.name.ends_with(last)) return entry.shape[0];
    }
  }
  return 0;
}

/// The last parts of the names where they stand for the same layers in peft, else whole names.
std::vector<std::string> target_names(const Model& model, const std::vector<std::string>& modules) {
  std::set<std::string> kinds;
  for (const std::string& module : modules) kinds.insert(name_components(module).back());
  std::set<std::string> matched;
  for (const WeightSlot& slot : model.weights()) {
    std::vector<std::string> parts = name_components(slot.name);
    parts.pop_back();
    if (!parts.empty() && kinds.contains(parts.back())) matched.insert(slot.name.substr(0, slot.name.rfind('.')));
  }
  if (matched == std::set<std::string>(modules.begin(), modules.end())) return {kinds.begin(), kinds.end()};
  return modules;
}

}  // namespace

bool is_adapter(const std::string& path) {
  return fs::is_directory(path) && fs::exists(fs::path(path) / kConfigFile) &&
         !fs::exists(fs::path(path) / "config.json");
}

AdapterFile::AdapterFile(const std::string& directory) : directory_(directory), file_(weights_path(directory)) {
  const std::string path = (fs::path(directory) / kConfigFile).string();
  const Json document = load_json(path);
  const JsonReader reader(document, path);
  check_plain(reader);
  base_ = reader.get<std::string>("base_model_name_or_path", "");
  config_.rank = reader.require<int64_t>("r", between(1, 1 << 20));
  config_.alpha = reader.get<double>("lora_alpha", 8.0, above(0.0));
  config_.dropout = reader.get<double>("lora_dropout", 0.0, half_open(0.0, 1.0));
  config_.rank_stabilized = reader.get<bool>("use_rslora", false);
  std::set<std::string> saved;
  for (const SafetensorsEntry& entry : file_.entries()) {
    ONDOL_CHECK(entry.name.starts_with(kPrefix) && is_floating(entry.dtype), "tensor \"", entry.name,
                "\" is none of a LoRA adapter (", file_.path(), ")");
    const std::string name = entry.name.substr(kPrefix.size());
    if (name.ends_with(kA)) {
      config_.targets.push_back(name.substr(0, name.size() - kA.size()));
      ONDOL_CHECK(entry.shape.ndim() == 2 && entry.shape[0] == config_.rank, "tensor \"", entry.name, "\" has shape ",
                  entry.shape, ", the rank is ", config_.rank, " (", file_.path(), ")");
      ONDOL_CHECK(file_.has(concat(kPrefix, config_.targets.back(), kB)), "tensor \"", kPrefix, config_.targets.back(),
                  kB, "\" is missing (", file_.path(), ")");
    } else if (!name.ends_with(kB)) {
      ONDOL_CHECK(name.find(".lora_") == std::string::npos && name.find('.') != std::string::npos, "tensor \"",
                  entry.name, "\" is not supported (", file_.path(), ")");
      saved.insert(name.substr(0, name.rfind('.')));
    }
  }
  ONDOL_CHECK(!config_.targets.empty(), "the adapter has no lora_A tensor (", file_.path(), ")");
  config_.modules_to_save.assign(saved.begin(), saved.end());
}

std::string AdapterFile::base() const {
  for (const fs::path& candidate : {fs::path(base_), fs::path(directory_) / base_}) {
    std::error_code unusable;  // a name that is no path at all is not here either
    if (!base_.empty() && fs::exists(candidate, unusable)) return candidate.string();
  }
  throw UsageError(concat("cannot load adapter: its base model \"", base_, "\" is not here (", directory_, ")"),
                   concat("set base_model_name_or_path in ", kConfigFile,
                          ", or merge it: ondol convert --merge-adapter ", directory_, " BASE DST"));
}

std::optional<HeadRequest> AdapterFile::head() const {
  const std::string path = (fs::path(directory_) / kHeadFile).string();
  if (!fs::exists(path)) {
    const Json settings = load_json((fs::path(directory_) / kConfigFile).string());
    const std::optional<Head> head = head_of_task(settings.value("task_type", Json()));
    const int64_t outputs = head_outputs(file_);
    if (!head || outputs == 0) return std::nullopt;
    HeadRequest request{.head = *head};
    const ModelInfo info = outline_model(base())->info();
    const bool named = info.head == *head && static_cast<int64_t>(info.labels.size()) == outputs;
    for (int64_t i = 0; !named && *head != Head::question_answering && i < outputs; ++i) {
      request.labels.push_back(concat("LABEL_", i));
    }
    return request;
  }
  const Json document = load_json(path);
  const JsonReader reader(document, path);
  std::vector<std::string> names;
  for (const HeadName& known : kHeads) names.emplace_back(known.name);
  const std::string wanted = reader.get_enum("head", names.front(), names);
  HeadRequest request;
  for (const HeadName& known : kHeads) {
    if (wanted == known.name) request.head = known.head;
  }
  request.labels = reader.get<std::vector<std::string>>("labels", {});
  request.problem_type = reader.get<std::string>("problem_type", "");
  return request;
}

void AdapterFile::read_into(const Model& model) const {
  for (const WeightSlot& slot : model.lora()->tensors) {
    ONDOL_CHECK(file_.has(slot.name), "tensor \"", slot.name, "\" is missing (", file_.path(), ")");
    const Tensor values = file_.tensor(slot.name);
    ONDOL_CHECK(values.shape() == slot.shape, "tensor \"", slot.name, "\" has shape ", values.shape(),
                ", the model asks for ", slot.shape, " (", file_.path(), ")");
    slot.view(slot.parameter.value()).copy_from(values.to(model.device()));
  }
}

Tensor AdapterFile::merged(const std::string& name, const Tensor& values, bool transposed) const {
  if (const std::string whole = concat(kPrefix, name); file_.has(whole)) {
    const Tensor replaced = file_.tensor(whole);
    ONDOL_CHECK(replaced.shape() == values.shape(), "tensor \"", whole, "\" has shape ", replaced.shape(),
                ", the model's ", values.shape(), " (", file_.path(), ")");
    return replaced.to(values.dtype()).clone();
  }
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return values;
  const std::string module = concat(kPrefix, name.substr(0, name.size() - kWeight.size()));
  if (!file_.has(module + std::string(kA))) return values;
  const Tensor a = file_.tensor(module + std::string(kA)).to(DType::f32);
  const Tensor b = file_.tensor(module + std::string(kB)).to(DType::f32);
  const Tensor delta = ops::scale(ops::matmul(b, a), static_cast<float>(config_.scale()));
  const Tensor placed = transposed ? delta.transpose(0, 1).contiguous() : delta;
  ONDOL_CHECK(placed.shape() == values.shape(), "the adapter's \"", module, "\" makes ", placed.shape(),
              ", the model's weight is ", values.shape(), " (", file_.path(), ")");
  return ops::add(values.to(DType::f32).contiguous(), placed).to(values.dtype());
}

void AdapterFile::check_names(const std::vector<std::string>& base_names) const {
  const std::set<std::string> known(base_names.begin(), base_names.end());
  for (const SafetensorsEntry& entry : file_.entries()) {
    std::string name = entry.name.substr(kPrefix.size());
    for (const std::string_view kind : {kA, kB}) {
      if (name.ends_with(kind)) name = name.substr(0, name.size() - kind.size()) + ".weight";
    }
    ONDOL_CHECK(known.contains(name), "tensor \"", entry.name, "\" belongs to no weight of the model (", file_.path(),
                ")");
  }
}

ModelFiles adapter_files(const Model& model, const SaveOptions& options) {
  const Lora* lora = model.lora();
  ONDOL_CHECK(lora != nullptr, "the model has no adapter to save");
  ModelFiles files;
  files.weights.push_back({kWeightsFile, {}});
  for (const WeightSlot& slot : lora->tensors) {
    files.weights[0].tensors.push_back(weight_slices(slot, options.dtype.value_or(model.dtype()), options.held));
  }

  nlohmann::ordered_json config = {{"peft_type", "LORA"}, {"base_model_name_or_path", lora->base}};
  const char* task = task_type(model.info().head);
  config["task_type"] = task == nullptr ? Json() : Json(task);
  config["r"] = lora->config.rank;
  config["lora_alpha"] = lora->config.alpha;
  config["lora_dropout"] = lora->config.dropout;
  config["use_rslora"] = lora->config.rank_stabilized;
  config["target_modules"] = target_names(model, lora->modules);
  config["modules_to_save"] = lora->saved.empty() ? Json() : Json(lora->saved);
  config["fan_in_fan_out"] = lora->fan_in_fan_out;
  config["bias"] = "none";
  config["init_lora_weights"] = true;
  config["inference_mode"] = true;
  files.texts.push_back({kConfigFile, config.dump(2) + "\n"});
  for (const HeadName& known : kHeads) {
    if (lora->saved.empty() || model.info().head != known.head) continue;
    const Json model_config = Json::parse(model.config_json());
    const Json head = {{"head", known.name},
                       {"labels", model.info().labels},
                       {"problem_type", model_config.value("problem_type", Json())}};
    files.texts.push_back({kHeadFile, head.dump(2) + "\n"});
  }
  return files;
}

}  // namespace ondol
