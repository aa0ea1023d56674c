#include "train/parameter_names.h"

#include <algorithm>
#include <set>

#include "base/nearest_name.h"
#include "models/name_pattern.h"

namespace ondol {

namespace {

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 6 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// What the name says of its place: a layer of a stack, an embedding, or neither.
struct Place {
  int64_t layer = -1;
  bool decoder = false, embedding = false;
};

Place place_of(const std::string& name) {
  Place place;
  for (const std::string& part : name_components(name)) {
    if (part == "decoder") place.decoder = true;
    if (place.layer < 0 && is_number(part)) place.layer = std::stoll(part);
    if (part.find("embed") != std::string::npos || part == "shared" || part == "wte" || part == "wpe") {
      place.embedding = true;
    }
  }
  return place;
}

/// Every run of `length` components of every name: what a pattern without * could have said.
std::vector<std::string> all_patterns(const std::vector<NamedTensor>& tensors, size_t length) {
  std::set<std::string> runs;
  for (const NamedTensor& tensor : tensors) {
    const std::vector<std::string> parts = name_components(tensor.name);
    for (size_t begin = 0; begin + length <= parts.size(); ++begin) {
      std::string run = parts[begin];
      for (size_t i = begin + 1; i < begin + length; ++i) run += "." + parts[i];
      runs.insert(run);
    }
  }
  return {runs.begin(), runs.end()};
}

}  // namespace

ParameterNames::ParameterNames(const Model& model) {
  const std::vector<ParameterStore::Entry>& entries = model.parameters().entries();
  for (size_t i = 0; i < entries.size(); ++i) {
    const size_t before = tensors_.size();
    for (const WeightSlot& slot : model.weights()) {
      if (!slot.parameter.same_as(entries[i].variable)) continue;
      const int64_t rows = slot.row_count < 0 ? entries[i].shape[0] : slot.row_count;
      tensors_.push_back({slot.name, i, slot.row_start, rows, 0});
    }
    if (tensors_.size() == before) tensors_.push_back({entries[i].name, i, 0, entries[i].shape[0], 0});
  }
  int64_t first_stack = 0, second_stack = 0;
  for (const NamedTensor& tensor : tensors_) {
    const Place place = place_of(tensor.name);
    int64_t& stack = place.decoder ? second_stack : first_stack;
    stack = std::max(stack, place.layer + 1);
  }
  layers_ = first_stack + second_stack;
  for (NamedTensor& tensor : tensors_) {
    const Place place = place_of(tensor.name);
    if (place.layer >= 0) {
      tensor.depth = 1 + place.layer + (place.decoder ? first_stack : 0);
    } else {
      tensor.depth = place.embedding ? 0 : layers_ + 1;
    }
  }
}

std::vector<size_t> ParameterNames::find(const std::string& pattern, const std::string& setting) const {
  std::vector<size_t> found;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (name_matches(pattern, tensors_[i].name)) found.push_back(i);
  }
  if (!found.empty()) return found;
  const std::string near = nearest_name(pattern, all_patterns(tensors_, name_components(pattern).size()));
  throw UsageError(concat(setting, " \"", pattern, "\" matches no parameter of the model"),
                   near.empty() ? concat("parameters have names like \"", tensors_.front().name, "\" and \"",
                                         tensors_[tensors_.size() / 2].name, "\"")
                                : concat("did you mean \"", near, "\"?"));
}

}  // namespace ondol
