#include <ondol/models/model_input.h>

#include <array>
#include <limits>
#include <map>
#include <optional>

#include <ondol/base/ignore_index.h>
#include <ondol/models/model.h>

namespace ondol {

namespace {

struct Field {
  const char* name;
  Tensor ModelInput::*tensor;
  bool prepared = false;  // added by Model::prepare
};

constexpr std::array kFields = {
    Field{"input_ids", &ModelInput::input_ids},
    Field{"attention_mask", &ModelInput::attention_mask},
    Field{"token_type_ids", &ModelInput::token_type_ids},
    Field{"position_ids", &ModelInput::positions},
    Field{"prefix_ends", &ModelInput::prefix_ends},
    Field{"decoder_input_ids", &ModelInput::decoder_input_ids},
    Field{"decoder_attention_mask", &ModelInput::decoder_attention_mask},
    Field{"labels", &ModelInput::labels},
    Field{"next_sentence_label", &ModelInput::next_sentence_label},
    Field{"sentence_order_label", &ModelInput::sentence_order_label},
    Field{"start_positions", &ModelInput::start_positions},
    Field{"end_positions", &ModelInput::end_positions},
    Field{"target_positions", &ModelInput::target_positions, true},
    Field{"target_labels", &ModelInput::target_labels, true},
};

std::vector<std::string> names_of(bool prepared) {
  std::vector<std::string> names;
  for (const Field& field : kFields) {
    if (field.prepared == prepared) names.emplace_back(field.name);
  }
  return names;
}

}  // namespace

const Tensor* ModelInput::find(std::string_view name) const {
  for (const Field& field : kFields) {
    if (name == field.name) return &(this->*field.tensor);
  }
  return nullptr;
}

Tensor* ModelInput::find(std::string_view name) {
  return const_cast<Tensor*>(static_cast<const ModelInput*>(this)->find(name));
}

const std::vector<std::string>& ModelInput::names() {
  static const std::vector<std::string> all = names_of(/*prepared=*/false);
  return all;
}

const std::vector<std::string>& ModelInput::prepared_names() {
  static const std::vector<std::string> all = names_of(/*prepared=*/true);
  return all;
}

ModelInput ModelInput::to(Device device) const {
  ModelInput moved = *this;
  const auto move = [device](Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.contiguous().to(device);
  };
  for (const Field& field : kFields) move(moved.*field.tensor);
  move(moved.documents);
  move(moved.sequences.offsets);
  return moved;
}

const InputSpec* find_spec(const std::vector<InputSpec>& specs, const std::string& name, const Tensor& tensor) {
  const InputSpec* best = nullptr;
  int best_score = -1;
  for (const InputSpec& spec : specs) {
    if (spec.name != name) continue;
    const bool same_kind = is_floating(spec.dtype) == is_floating(tensor.dtype());
    const int score = 2 * same_kind + (spec.shape.size() == static_cast<size_t>(tensor.ndim()));
    if (score > best_score) best = &spec;
    best_score = std::max(score, best_score);
  }
  return best;
}

namespace {

/// Sizes that a batch fixes by itself, met as its tensors are looked at.
class SizeBinding {
 public:
  /// The shape that `spec` asks for; sizes that are not known yet are those of the tensor, which has as many of them.
  Shape expected(const InputSpec& spec, const Tensor& tensor) {
    std::vector<int64_t> sizes = spec.shape;
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] < 0) sizes[i] = bound_.try_emplace(sizes[i], tensor.size(static_cast<int>(i))).first->second;
    }
    return Shape(std::span<const int64_t>(sizes));
  }

 private:
  std::map<int64_t, int64_t> bound_;
};

class InputCheck {
 public:
  explicit InputCheck(const std::string& where) : where_(where) {}

  [[noreturn]] void fail(const std::string& why, const std::string& hint = "") const {
    throw UsageError(concat("input does not fit the model: ", why, " (", where_, ")"), hint);
  }

  void shape(const InputSpec& spec, const Tensor& tensor) {
    if (tensor.ndim() != static_cast<int>(spec.shape.size())) {
      fail(concat("\"", spec.name, "\" must be ", symbols(spec), ", not ", tensor.shape()));
    }
    const Shape expected = sizes_.expected(spec, tensor);
    if (tensor.shape() != expected) fail(concat("\"", spec.name, "\" is ", tensor.shape(), ", not ", expected));
    if (tensor.dtype() == spec.dtype) return;
    fail(concat("\"", spec.name, "\" holds ", dtype_name(tensor.dtype()), ", ",
                is_floating(spec.dtype) ? "floating-point numbers" : "integers", " are needed"));
  }

  void values(const InputSpec& spec, const Tensor& tensor) const {
    const int64_t limit = spec.dtype == DType::u8 ? 2 : spec.limit;
    if (spec.dtype == DType::f32 || limit == 0) return;
    const Tensor flat = tensor.contiguous();
    if (spec.dtype == DType::u8) return check(flat.data<uint8_t>(), flat.numel(), limit, spec);
    check(flat.data<int32_t>(), flat.numel(), limit, spec);
  }

 private:
  template <class T>
  void check(const T* values, int64_t count, int64_t limit, const InputSpec& spec) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t value = values[i];
      if ((value >= 0 && value < limit) || (spec.ignorable && value == kIgnoreIndex)) continue;
      throw_error("input does not fit the model: \"", spec.name, "\" holds ", value, ", values lie in [0, ", limit - 1,
                  "]", spec.ignorable ? concat(" or are ", kIgnoreIndex) : "", " (", where_, ")");
    }
  }

  static std::string symbols(const InputSpec& spec) {
    std::string text;
    for (const int64_t size : spec.shape) {
      const char* separator = text.empty() ? "" : ", ";
      if (size == InputSpec::kBatch) text += concat(separator, "B");
      if (size == InputSpec::kLength) text += concat(separator, "T");
      if (size == InputSpec::kTargetLength) text += concat(separator, "S");
      if (size >= 0) text += concat(separator, size);
    }
    return "(" + text + ")";
  }

  const std::string& where_;
  SizeBinding sizes_;
};

std::string model_text(const ModelInfo& info) {
  return concat("a ", info.model_type, " model (", info.architecture, ")");
}

std::string names_text(const std::vector<InputSpec>& specs) {
  std::string text;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (i > 0 && specs[i].name == specs[i - 1].name) continue;
    text += (text.empty() ? "" : ", ") + specs[i].name;
  }
  return text;
}

}  // namespace

void Model::check_shapes(const ModelInput& input, const std::string& where) const {
  const std::vector<InputSpec> specs = inputs();
  InputCheck check(where);
  for (const std::string& name : ModelInput::names()) {
    const Tensor& tensor = *input.find(name);
    if (!tensor.defined()) continue;
    const InputSpec* spec = find_spec(specs, name, tensor);
    if (spec == nullptr) {
      check.fail(concat("\"", name, "\" is no input of ", model_text(info_)), concat("it takes ", names_text(specs)));
    }
    check.shape(*spec, tensor);
  }
  for (const InputSpec& spec : specs) {
    if (spec.role == InputSpec::needed && !input.find(spec.name)->defined()) {
      check.fail(concat("\"", spec.name, "\" is missing"));
    }
  }
  const int64_t length = input.sequences.defined() ? input.sequences.max_length : input.input_ids.size(1);
  const auto limit_length = [&](int64_t tokens, int64_t most) {
    if (tokens > most) check.fail(concat(tokens, " tokens, the model allows ", most, " positions"));
  };
  if (info_.head == Head::sequence_to_sequence) {
    limit_length(length, info_.max_source_positions);
    for (const Tensor* target : {&input.decoder_input_ids, &input.labels}) {
      if (target->defined()) limit_length(target->size(1), info_.max_positions);
    }
  } else if (!input.positions.defined()) {
    limit_length(length, info_.max_positions);
  }
}

ModelInput Model::prepare(ModelInput input, const std::string& where) const {
  check_shapes(input, where);
  const std::vector<InputSpec> specs = inputs();
  const InputCheck check(where);
  for (const std::string& name : ModelInput::names()) {
    const Tensor& tensor = *input.find(name);
    if (tensor.defined()) check.values(*find_spec(specs, name, tensor), tensor);
  }
  return complete(std::move(input));
}

}  // namespace ondol
