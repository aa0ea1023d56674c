#include <ondol/models/lora.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include <ondol/autograd/low_rank.h>

#include "models/family.h"
#include "models/name_pattern.h"

namespace ondol {

namespace {

constexpr const char* kAllLinear = "all-linear";
constexpr const char* kWeight = ".weight";

/// Embeddings and tables of biases are read by rows, not multiplied.
bool is_table(const std::string& name) {
  for (const std::string& part : name_components(name)) {
    if (part.find("embed") != std::string::npos || part == "shared" || part == "wte" || part == "wpe" ||
        part == "relative_attention_bias") {
      return true;
    }
  }
  return false;
}

/// A linear layer of the file: some rows of a parameter.
struct LinearModule {
  std::string name;
  const WeightSlot* slot;
};

std::vector<LinearModule> linear_modules(const Model& model) {
  std::vector<LinearModule> modules;
  for (const WeightSlot& slot : model.weights()) {
    if (slot.shape.ndim() != 2 || !slot.name.ends_with(kWeight) || is_table(slot.name)) continue;
    if (!slot.parameter.requires_grad()) continue;  // a buffer
    modules.push_back({slot.name.substr(0, slot.name.size() - std::string_view(kWeight).size()), &slot});
  }
  return modules;
}

bool is_of_a_layer(const std::string& name) {
  const std::vector<std::string> parts = name_components(name);
  return std::any_of(parts.begin(), parts.end(), [](const std::string& part) {
    return !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
  });
}

std::string last_component(const std::string& name) { return name_components(name).back(); }

/// The names of the layers that a target picks out.
std::set<std::string> find_target(const std::vector<LinearModule>& modules, const std::string& target) {
  std::set<std::string> found, kinds;
  for (const LinearModule& module : modules) {
    const bool wanted = target == kAllLinear ? is_of_a_layer(module.name) : name_ends_with(target, module.name);
    if (wanted) found.insert(module.name);
    if (is_of_a_layer(module.name)) kinds.insert(last_component(module.name));
  }
  if (!found.empty()) return found;
  std::string known;
  for (const std::string& kind : kinds) known += (known.empty() ? "" : ", ") + kind;
  throw UsageError(concat("lora target \"", target, "\" matches no linear layer of the model"),
                   concat("linear layers: ", known, "; or ", kAllLinear));
}

/// The module that a pattern names as the shortest beginning of a tensor's name: "classifier" of
/// "classifier.dense.weight"; "" when it names none.
std::string saved_module(const std::string& pattern, const std::string& tensor) {
  for (size_t end = tensor.find('.'); end != std::string::npos; end = tensor.find('.', end + 1)) {
    if (name_ends_with(pattern, tensor.substr(0, end))) return tensor.substr(0, end);
  }
  return "";
}

/// The parameters of the base that are trained and saved as they are, and the modules that they belong to.
struct SavedModules {
  std::set<const void*> entries;
  std::set<std::string> names;
};

SavedModules find_saved(const Model& model, const LoraConfig& config) {
  SavedModules saved;
  for (const std::string& pattern : config.modules_to_save) {
    bool found = false;
    std::vector<std::string> names;
    for (const WeightSlot& slot : model.weights()) {
      names.push_back(slot.name);
      const std::string module = saved_module(pattern, slot.name);
      if (module.empty()) continue;
      found = true;
      saved.names.insert(module);
      for (const ParameterStore::Entry& entry : model.parameters().entries()) {
        if (entry.variable.same_as(slot.parameter)) saved.entries.insert(&entry);
      }
    }
    if (found) continue;
    throw UsageError(concat("lora.modules_to_save \"", pattern, "\" matches no part of the model"),
                     concat("parts have names like \"", names.back().substr(0, names.back().rfind('.')), "\""));
  }
  return saved;
}

}  // namespace

double LoraConfig::scale() const {
  return alpha / (rank_stabilized ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

void add_lora(Model& model, const LoraConfig& config, const std::string& base) {
  ONDOL_CHECK(model.lora() == nullptr, "the model has an adapter already");
  if (config.targets.empty()) throw UsageError("lora.targets names no layer", "for example [\"q_proj\", \"v_proj\"]");
  const std::vector<LinearModule> modules = linear_modules(model);
  std::set<std::string> wanted;
  for (const std::string& target : config.targets) wanted.merge(find_target(modules, target));

  ParameterStore& parameters = model.parameters();
  const SavedModules saved = find_saved(model, config);
  parameters.set_trainable(
      [&](const ParameterStore::Entry& entry) { return entry.extra || saved.entries.contains(&entry); });

  auto lora = std::make_shared<Lora>(
      Lora{config, base, {wanted.begin(), wanted.end()}, {}, {saved.names.begin(), saved.names.end()}, false});
  const std::vector<ParameterStore::Entry> entries = parameters.entries();  // extras are added behind them
  uint32_t stream = 0;
  for (const ParameterStore::Entry& entry : entries) {
    std::vector<LinearModule> parts;
    for (const LinearModule& module : modules) {
      if (module.slot->parameter.same_as(entry.variable) && wanted.contains(module.name)) parts.push_back(module);
    }
    if (parts.empty()) continue;
    const int64_t inputs = entry.shape[1], rank = config.rank;
    auto update = std::make_shared<LowRankUpdate>();
    update->scale = static_cast<float>(config.scale());
    update->dropout = static_cast<float>(config.dropout);
    update->stream = stream++;
    update->a =
        parameters.add_extra(concat("lora.", entry.name, ".A"), {rank * static_cast<int64_t>(parts.size()), inputs},
                             Init::uniform(1.0f / std::sqrt(static_cast<float>(inputs))));
    for (const LinearModule& part : parts) {
      const int64_t rows = part.slot->row_count < 0 ? entry.shape[0] : part.slot->row_count;
      const Variable b = parameters.add_extra(concat("lora.", part.name, ".B"), {rows, rank}, Init::zeros());
      const std::string prefix = concat("base_model.model.", part.name);
      const auto index = static_cast<int64_t>(update->parts.size());
      lora->tensors.push_back({prefix + ".lora_A.weight", update->a, index * rank, rank, false, {rank, inputs}});
      lora->tensors.push_back({prefix + ".lora_B.weight", b, 0, -1, false, {rows, rank}});
      update->parts.push_back({b, part.slot->row_start, rows});
      lora->fan_in_fan_out = lora->fan_in_fan_out || part.slot->transposed;
    }
    entry.variable.set_low_rank(std::move(update));
  }
  for (const WeightSlot& slot : model.weights()) {
    for (const ParameterStore::Entry& entry : parameters.entries()) {
      if (entry.extra || !entry.trainable || !entry.variable.same_as(slot.parameter)) continue;
      lora->tensors.push_back(slot);
      lora->tensors.back().name = "base_model.model." + slot.name;
    }
  }
  model.set_lora(std::move(lora));
}

std::vector<std::string> head_modules(const Model& model) {
  const std::string backbone = dynamic_cast<const FamilyModel&>(model).base_prefix();
  std::set<std::string> modules;
  for (const WeightSlot& slot : model.weights()) {
    if (!slot.name.starts_with(backbone)) modules.insert(name_components(slot.name).front());
    // It stands below the backbone's name, but a base for other tasks may lack it.
    if (slot.name.find(".pooler.") != std::string::npos) modules.insert("pooler");
  }
  return {modules.begin(), modules.end()};
}

}  // namespace ondol
