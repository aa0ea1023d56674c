// ondol forward MODEL_DIR: one forward pass (and backward) over tensors of a file, for comparing with other programs.
#include <array>
#include <limits>
#include <set>

#include <ondol/autograd/functions.h>
#include <ondol/io/safetensors.h>

#include "json_output.h"
#include "model_files.h"
#include "option_checks.h"
#include "train/objectives/causal.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::DType;
using ondol::Tensor;
using ondol::UsageError;

struct Options {
  std::string model, input, output;
  bool hidden_states = false;
  bool gradients = false;
};

/// Integers of the file as i32, checked.
Tensor read_integers(const ondol::SafetensorsFile& file, const std::string& name) {
  const Tensor source = file.tensor(name);
  if (ondol::is_floating(source.dtype())) {
    throw UsageError(concat("tensor \"", name, "\" must hold integers, not ", ondol::dtype_name(source.dtype()), " (",
                            file.path(), ")"));
  }
  for (const int64_t value : source.to_vector<int64_t>()) {
    if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max()) {
      throw UsageError(concat("tensor \"", name, "\" holds ", value, ", beyond 32 bits (", file.path(), ")"));
    }
  }
  return source.to(DType::i32);
}

struct Inputs {
  ondol::ModelInput model;
  Tensor shifted_labels;
  int64_t targets = 0;
};

Inputs read_inputs(const std::string& path, const ondol::Model& model) {
  static const std::set<std::string> known = {"input_ids", "attention_mask", "labels"};
  const ondol::SafetensorsFile file(path);
  for (const ondol::SafetensorsEntry& entry : file.entries()) {
    if (!known.contains(entry.name)) {
      throw UsageError(
          concat("tensor \"", entry.name, "\" is no input of a ", model.info().model_type, " model (", path, ")"),
          "it takes input_ids, attention_mask and labels");
    }
  }
  if (!file.has("input_ids")) throw UsageError(concat("tensor \"input_ids\" is missing (", path, ")"));
  Inputs inputs;
  const Tensor ids = read_integers(file, "input_ids");
  if (ids.ndim() != 2 || ids.numel() == 0) {
    throw UsageError(concat("tensor \"input_ids\" must be (B, T), got ", ids.shape(), " (", path, ")"));
  }
  const auto check_shape = [&](const std::string& name, const Tensor& tensor) {
    if (tensor.shape() == ids.shape()) return;
    throw UsageError(concat("tensor \"", name, "\" is ", tensor.shape(), ", input_ids ", ids.shape(), " (", path, ")"));
  };
  inputs.model.input_ids = ids.to(model.device());
  if (file.has("attention_mask")) {
    const Tensor integers = read_integers(file, "attention_mask");
    check_shape("attention_mask", integers);
    for (const int32_t value : integers.to_vector<int32_t>()) {
      if (value == 0 || value == 1) continue;
      throw UsageError(concat("tensor \"attention_mask\" holds ", value, ", it must be 0 or 1 (", path, ")"));
    }
    const Tensor mask = integers.to(DType::u8);
    inputs.model.attention_mask = mask.to(model.device());
  }
  if (file.has("labels")) {
    const Tensor labels = read_integers(file, "labels");
    check_shape("labels", labels);
    inputs.shifted_labels = ondol::shift_labels(labels);
    for (const int32_t label : inputs.shifted_labels.to_vector<int32_t>())
      inputs.targets += label != ondol::kIgnoreIndex;
    inputs.shifted_labels = inputs.shifted_labels.to(model.device());
  }
  return inputs;
}

void add_gradients(const ondol::Model& model, ondol::NamedTensors& outputs) {
  for (const ondol::WeightSlot& slot : model.weights()) {
    outputs.emplace_back("grad." + slot.name, slot.view(slot.parameter.grad()));
  }
}

void run_forward(const Options& options, const GlobalOptions& global) {
  const auto model = load_model_directory(options.model, global);
  const Inputs inputs = read_inputs(options.input, *model);
  if (options.gradients && !inputs.shifted_labels.defined()) {
    throw UsageError(concat("gradients need labels, which are not there (", options.input, ")"));
  }
  if (inputs.shifted_labels.defined() && inputs.targets == 0) {
    throw UsageError(concat("tensor \"labels\" has no target behind the first position (", options.input, ")"));
  }
  std::vector<Tensor> states;
  ondol::ForwardContext context;
  if (options.hidden_states) context.hidden_states = &states;
  std::optional<ondol::Tape> tape;
  if (options.gradients) {
    model->parameters().enable_gradients();
    tape.emplace();
  }
  const ondol::Variable hidden = model->hidden(inputs.model, context);
  ondol::NamedTensors outputs = {{"logits", model->logits(hidden.value())}, {"last_hidden_state", hidden.value()}};
  for (size_t i = 0; i < states.size(); ++i) outputs.emplace_back(concat("hidden_states.", i), states[i]);
  if (inputs.shifted_labels.defined()) {
    ondol::functions::LinearCrossEntropyInputs loss_inputs;
    loss_inputs.weight = model->output_weight();
    loss_inputs.scale = 1.0f / static_cast<float>(inputs.targets);
    const ondol::Variable loss = ondol::functions::linear_cross_entropy(hidden, inputs.shifted_labels, loss_inputs);
    outputs.emplace_back("loss", loss.value().reshape(ondol::Shape{}));
    if (tape) {
      tape->backward(loss);
      model->parameters().finish_gradients();
      add_gradients(*model, outputs);
    }
  }
  ondol::SafetensorsWriteOptions write;
  write.floating_dtype = DType::f32;
  ondol::write_safetensors(options.output, outputs, write);
  if (!global.json) return;
  OrderedJson names = OrderedJson::array();
  for (const auto& [name, tensor] : outputs) names.push_back(name);
  write_json({{"output", options.output}, {"tensors", std::move(names)}});
}

}  // namespace

void add_forward_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = program.app.add_subcommand("forward", "Run a model over tensors of a file");
  verb->add_option("MODEL_DIR", options->model, "Model directory")->required();
  verb->add_option(
          "--input", options->input,
          "safetensors: input_ids (B, T), attention_mask, labels (-100: not counted; position t+1 is predicted at t)")
      ->required();
  verb->add_option("--output", options->output, "safetensors to write: logits, last_hidden_state, loss, …")
      ->required()
      ->check(not_empty());
  verb->add_flag("--hidden-states", options->hidden_states,
                 "Also hidden_states.N: 0 the embeddings, the last the output");
  verb->add_flag("--gradients", options->gradients, "Also grad.NAME of the loss for every weight");
  program.run_on(verb, [options, &program] { run_forward(*options, program.global); });
}
