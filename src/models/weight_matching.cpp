#include "models/weight_matching.h"

#include <set>
#include <unordered_map>

namespace ondol {

namespace {

/// The tensors of a file by the names that the model's weights have.
class FileTensors {
 public:
  FileTensors(const FamilyModel& model, const WeightSource& file) : model_(model) {
    for (const std::string& name : file.names()) {
      const std::string canonical = model.canonical_name(name);
      ONDOL_CHECK(names_.emplace(canonical, name).second, "tensor \"", file.label(name),
                  "\" is there twice, also as \"", file.label(names_.at(canonical)), "\" (", file.path(), ")");
    }
  }

  /// The file's name for a weight, with or without the backbone's prefix; "" when there is none.
  std::string find(const std::string& name) const {
    const std::string prefix = model_.base_prefix();
    std::vector<std::string> candidates = {name};
    candidates.push_back(name.starts_with(prefix) ? name.substr(prefix.size()) : prefix + name);
    for (const std::string& candidate : candidates) {
      if (const auto found = names_.find(candidate); found != names_.end()) return found->second;
    }
    return "";
  }

  std::string find_or_alternative(const std::string& name) const {
    const std::string found = find(name), other = model_.alternative_name(name);
    return found.empty() && !other.empty() ? find(other) : found;
  }

 private:
  const FamilyModel& model_;
  std::unordered_map<std::string, std::string> names_;
};

bool same_values(const WeightSource& file, const std::string& name, const std::string& other_name) {
  const Tensor other = file.tensor(other_name);
  bool same = file.shape(name) == other.shape();
  if (!same) return false;
  file.for_each_part(name, [&](const Tensor& part, int64_t row) {
    const Tensor reference = part.ndim() == 0 ? other : other.narrow(0, row, part.size(0));
    same = same && part.to_vector<float>() == reference.to_vector<float>();
  });
  file.for_each_part(other_name, [](const Tensor&, int64_t) {});  // its memory is given back
  return same;
}

}  // namespace

std::vector<std::string> match_weights(const FamilyModel& model, const WeightSource& file, bool fresh_head) {
  const FileTensors tensors(model, file);
  const std::string prefix = model.base_prefix();
  std::vector<std::string> names;
  for (const WeightSlot& slot : model.weights()) {
    const bool of_head = !slot.name.starts_with(prefix);
    names.push_back(fresh_head && of_head ? "" : tensors.find_or_alternative(slot.name));
    const std::string& name = names.back();
    if (name.empty() && !slot.parameter.requires_grad()) continue;  // a buffer may be left out
    if (name.empty() && fresh_head && (of_head || slot.name.starts_with(prefix + "pooler."))) continue;
    ONDOL_CHECK(!name.empty(), "tensor \"", slot.name, "\" is missing (", file.path(), ")");
    ONDOL_CHECK(file.shape(name) == slot.shape, "tensor \"", file.label(name), "\" has shape ", file.shape(name),
                ", the configuration asks for ", slot.shape, " (", file.path(), ")");
    ONDOL_CHECK(file.is_floating(name), "tensor \"", file.label(name), "\" holds ", file.type_name(name),
                ", not floating point (", file.path(), ")");
  }
  const std::set<std::string> used(names.begin(), names.end());
  for (const std::string& name : file.names()) {
    if (used.contains(name) || model.is_buffer(name)) continue;
    const std::string tied = model.tied_name(name);
    const std::string original = tied.empty() ? "" : tensors.find(tied);
    ONDOL_CHECK(!original.empty(), "unexpected tensor \"", file.label(name), "\": the configuration (",
                model.info().model_type, ") has no such weight (", file.path(), ")");
    ONDOL_CHECK(same_values(file, name, original), "tensor \"", file.label(name), "\" differs from \"",
                file.label(original), "\", though the configuration ties them (", file.path(), ")");
  }
  return names;
}

}  // namespace ondol
