#include "train/teacher_layers.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string>

namespace ondol {

namespace {

/// DistilBERT's names and BERT's, in the order in which they are to be looked for.
constexpr std::pair<const char*, const char*> kDistilBertNames[] = {
    {"distilbert.transformer.", "bert.encoder."},
    {"distilbert.", "bert."},
    {"attention.q_lin.", "attention.self.query."},
    {"attention.k_lin.", "attention.self.key."},
    {"attention.v_lin.", "attention.self.value."},
    {"attention.out_lin.", "attention.output.dense."},
    {"sa_layer_norm.", "attention.output.LayerNorm."},
    {"ffn.lin1.", "intermediate.dense."},
    {"ffn.lin2.", "output.dense."},
    {"output_layer_norm.", "output.LayerNorm."},
    {"vocab_transform.", "cls.predictions.transform.dense."},
    {"vocab_layer_norm.", "cls.predictions.transform.LayerNorm."},
    {"vocab_projector.bias", "cls.predictions.bias"},
    {"vocab_projector.", "cls.predictions.decoder."},
};

std::string bert_name(std::string name) {
  for (const auto& [from, to] : kDistilBertNames) {
    const size_t at = name.find(from);
    const bool whole = at == 0 || (at != std::string::npos && name[at - 1] == '.');
    if (whole) name.replace(at, std::string(from).size(), to);
  }
  return name;
}

/// A name around the number of its layer: "bert.encoder.layer.", 3, ".output.dense.bias".
struct LayerName {
  std::string before;  // "" when the tensor belongs to no layer
  int64_t layer = 0;
  std::string after;
};

LayerName split(const std::string& name) {
  LayerName first;
  for (const char* word : {"layer.", "layers.", "h.", "block."}) {
    for (size_t at = name.find(word); at != std::string::npos; at = name.find(word, at + 1)) {
      if (at > 0 && name[at - 1] != '.') continue;
      const size_t begin = at + std::string(word).size();
      size_t end = begin;
      while (end < name.size() && end - begin < 6 && std::isdigit(static_cast<unsigned char>(name[end])) != 0) ++end;
      if (end == begin || end == name.size() || name[end] != '.') continue;
      if (first.before.empty() || begin < first.before.size()) {
        first = {name.substr(0, begin), std::stoll(name.substr(begin, end - begin)), name.substr(end)};
      }
      break;
    }
  }
  return first;
}

using Slots = std::map<std::string, const WeightSlot*>;

/// Number of layers of each stack.
std::map<std::string, int64_t> count_layers(const Slots& slots) {
  std::map<std::string, int64_t> counts;
  for (const auto& [name, slot] : slots) {
    const LayerName parts = split(name);
    if (parts.before.empty()) continue;
    int64_t& count = counts[parts.before];
    count = std::max(count, parts.layer + 1);
  }
  return counts;
}

/// The teacher's layer for each of a stack's.
std::vector<int64_t> choose(const std::vector<int64_t>& layers, int64_t student, int64_t teacher,
                            const std::string& stack) {
  const auto sizes = [&] { return concat(student, " layers from ", teacher, " (", stack, "*)"); };
  if (layers.empty()) {
    if (teacher != 2 * student && teacher != 2 * student - 1) {
      throw UsageError(concat("objective.initialize \"every_second\" does not fit: ", sizes()),
                       "name the teacher's layers, for example [0, 3, 5]");
    }
    std::vector<int64_t> every_second;
    for (int64_t layer = 0; layer < student; ++layer) every_second.push_back(2 * layer);
    return every_second;
  }
  const bool inside = std::all_of(layers.begin(), layers.end(), [&](int64_t l) { return l >= 0 && l < teacher; });
  if (static_cast<int64_t>(layers.size()) != student || !inside) {
    throw UsageError(concat("objective.initialize names ", layers.size(), " layers, which do not fit: ", sizes()),
                     "one of the teacher's layers for each of the student's, counted from 0");
  }
  return layers;
}

}  // namespace

void copy_teacher_layers(const Model& student, const Model& teacher, const std::vector<int64_t>& layers) {
  const bool rename = student.info().model_type == "distilbert" && teacher.info().model_type == "bert";
  Slots own, theirs;
  for (const WeightSlot& slot : student.weights()) own[rename ? bert_name(slot.name) : slot.name] = &slot;
  for (const WeightSlot& slot : teacher.weights()) theirs[slot.name] = &slot;

  const std::map<std::string, int64_t> own_layers = count_layers(own), their_layers = count_layers(theirs);
  std::map<std::string, std::vector<int64_t>> chosen;
  for (const auto& [stack, count] : own_layers) {
    const auto found = their_layers.find(stack);
    chosen[stack] = choose(layers, count, found == their_layers.end() ? 0 : found->second, stack);
  }
  for (const auto& [name, slot] : own) {
    const LayerName parts = split(name);
    auto source = theirs.find(name);
    if (!parts.before.empty()) {
      const auto other =
          theirs.find(concat(parts.before, chosen.at(parts.before)[static_cast<size_t>(parts.layer)], parts.after));
      // T5 has its relative biases in the first layer, whichever it comes from.
      if (other != theirs.end()) source = other;
    }
    if (source == theirs.end()) {
      throw UsageError(concat("cannot initialise \"", slot->name, "\" from the teacher, a ", teacher.info().model_type,
                              " model (", teacher.info().architecture, "): it has no such tensor"),
                       "set objective.initialize to \"none\"");
    }
    const Tensor target = slot->view(slot->parameter.value());
    const Tensor value = source->second->view(source->second->parameter.value());
    if (target.shape() != value.shape()) {
      throw UsageError(concat("cannot initialise \"", slot->name, "\" from the teacher: it is ", value.shape(),
                              " there, ", target.shape(), " in the student"),
                       "set objective.initialize to \"none\", or give the student the teacher's width");
    }
    target.copy_from(value);
  }
}

}  // namespace ondol
