#include "train/trainable.h"

#include "train/parameter_names.h"

namespace ondol {

namespace {

/// What the model keeps as one parameter is frozen as a whole.
void check_whole(const ParameterNames& names, const std::vector<bool>& frozen) {
  for (size_t i = 0; i < frozen.size(); ++i) {
    for (size_t j = i + 1; j < frozen.size() && names.tensors()[j].entry == names.tensors()[i].entry; ++j) {
      if (frozen[i] == frozen[j]) continue;
      const std::string& first = names.tensors()[frozen[i] ? i : j].name;
      const std::string& second = names.tensors()[frozen[i] ? j : i].name;
      throw UsageError(
          concat("train.freeze names \"", first, "\" but not \"", second, "\": the model keeps them as one matrix"),
          "freeze both or neither");
    }
  }
}

}  // namespace

void choose_trainable(Model& model, const TrainConfig::Freeze& freeze) {
  if (freeze.patterns.empty() && freeze.layers == 0) return;
  const ParameterNames names(model);
  std::vector<bool> frozen(names.tensors().size(), false);
  for (const std::string& pattern : freeze.patterns) {
    for (const size_t i : names.find(pattern, "train.freeze")) frozen[i] = true;
  }
  if (freeze.layers > names.layers()) {
    throw UsageError(concat("train.freeze_layers is ", freeze.layers, ", the model has ", names.layers(), " layers"));
  }
  for (size_t i = 0; freeze.layers > 0 && i < frozen.size(); ++i) {
    if (names.tensors()[i].depth <= freeze.layers) frozen[i] = true;
  }
  check_whole(names, frozen);
  ParameterStore& parameters = model.parameters();
  std::vector<bool> entries(parameters.entries().size(), false);
  bool any_left = false;
  for (size_t i = 0; i < frozen.size(); ++i) {
    entries[names.tensors()[i].entry] = frozen[i];
    any_left = any_left || !frozen[i];
  }
  if (!any_left) throw UsageError("train.freeze leaves nothing to train");
  parameters.set_trainable([&](const ParameterStore::Entry& entry) {
    return !entries[static_cast<size_t>(&entry - parameters.entries().data())];
  });
}

}  // namespace ondol
