// ondol forward MODEL_DIR: one forward pass (and backward) over tensors of a file, for comparing with other programs.
#include <algorithm>
#include <limits>

#include <ondol/io/safetensors.h>

#include "json_output.h"
#include "model_files.h"
#include "option_checks.h"
#include "verbs.h"

namespace {

using ondol::concat;
using ondol::DType;
using ondol::InputSpec;
using ondol::Tensor;
using ondol::UsageError;

struct Options {
  std::string model, input, output;
  bool hidden_states = false;
  bool gradients = false;
};

/// A tensor of the file in the dtype that the model takes: integers as i32 or u8 as long as they fit, floats as f32.
Tensor read_input(const ondol::SafetensorsFile& file, const std::string& name, const InputSpec& spec) {
  const Tensor source = file.tensor(name);
  if (ondol::is_floating(source.dtype()) || source.dtype() == DType::boolean) {
    return ondol::is_floating(source.dtype()) ? source.to(DType::f32) : source.to(DType::u8).to(spec.dtype);
  }
  if (spec.dtype == DType::f32) return source.to(DType::f32);
  const int64_t low = spec.dtype == DType::u8 ? 0 : std::numeric_limits<int32_t>::min();
  const int64_t high = spec.dtype == DType::u8 ? 1 : std::numeric_limits<int32_t>::max();
  for (const int64_t value : source.to_vector<int64_t>()) {
    if (value >= low && value <= high) continue;
    throw UsageError(concat("tensor \"", name, "\" holds ", value, ", it must be ", high == 1 ? "0 or 1" : "of 32 bits",
                            " (", file.path(), ")"));
  }
  return source.to(spec.dtype);
}

struct Inputs {
  ondol::ModelInput host, device;  // prepared
  bool targets = false;
};

Inputs read_inputs(const std::string& path, const ondol::Model& model) {
  const ondol::SafetensorsFile file(path);
  const std::vector<InputSpec> specs = model.inputs();
  ondol::ModelInput input;
  Inputs inputs;
  for (const ondol::SafetensorsEntry& entry : file.entries()) {
    const InputSpec* spec = ondol::find_spec(specs, entry.name, file.tensor(entry.name));
    if (spec == nullptr) {
      std::string known;
      for (const InputSpec& each : specs) {
        if (known.find(each.name) == std::string::npos) known += (known.empty() ? "" : ", ") + each.name;
      }
      throw UsageError(concat("tensor \"", entry.name, "\" is no input of a ", model.info().model_type, " model (",
                              model.info().architecture, ") (", path, ")"),
                       "it takes " + known);
    }
    *input.find(entry.name) = read_input(file, entry.name, *spec);
    inputs.targets = inputs.targets || spec->role == InputSpec::target;
  }
  if (input.input_ids.defined() && input.input_ids.numel() == 0) {
    throw UsageError(concat("tensor \"input_ids\" is empty (", path, ")"));
  }
  inputs.host = model.prepare(std::move(input), path);
  inputs.device = inputs.host.to(model.device());
  return inputs;
}

void add_gradients(const ondol::Model& model, ondol::NamedTensors& outputs) {
  for (const ondol::WeightSlot& slot : model.weights()) {
    if (!slot.parameter.requires_grad()) continue;  // a buffer
    outputs.emplace_back("grad." + slot.name, slot.view(slot.parameter.grad()));
  }
}

/// The loss and, when asked for, the gradients.
void add_loss(ondol::Model& model, const Inputs& inputs, const Options& options, ondol::NamedTensors& outputs) {
  const std::vector<int64_t> counts = model.count_targets(inputs.host);
  if (std::all_of(counts.begin(), counts.end(), [](int64_t count) { return count == 0; })) {
    throw UsageError(concat("no target counts: there is no loss (", options.input, ")"),
                     "labels of -100 do not count, nor does the first one of a model that predicts the next token");
  }
  std::optional<ondol::Tape> tape;
  if (options.gradients) {
    model.parameters().enable_gradients();
    tape.emplace();
  }
  const ondol::Variable loss = ondol::total_loss(model.losses(inputs.device, ondol::mean_scales(counts), {}));
  outputs.emplace_back("loss", loss.value().reshape(ondol::Shape{}));
  if (!tape) return;
  tape->backward(loss);
  model.parameters().finish_gradients();
  add_gradients(model, outputs);
}

void run_forward(const Options& options, const GlobalOptions& global) {
  const auto model = load_model_directory(options.model, global);
  const Inputs inputs = read_inputs(options.input, *model);
  if (options.gradients && !inputs.targets) {
    throw UsageError(
        concat("gradients need a loss, and there is nothing to compare the outputs with (", options.input, ")"),
        "add the model's targets, such as labels");
  }
  std::vector<std::pair<std::string, Tensor>> states;
  ondol::ForwardContext context;
  if (options.hidden_states) context.hidden_states = &states;
  ondol::NamedTensors outputs;
  for (const auto& [name, value] : model->forward(inputs.device, context)) outputs.emplace_back(name, value.value());
  outputs.insert(outputs.end(), states.begin(), states.end());
  if (inputs.targets) add_loss(*model, inputs, options, outputs);
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
          "safetensors: input_ids (B, T) and what else the model takes: attention_mask, token_type_ids, labels, …")
      ->required();
  verb->add_option("--output", options->output, "safetensors to write: logits, last_hidden_state, loss, …")
      ->required()
      ->check(not_empty());
  verb->add_flag("--hidden-states", options->hidden_states,
                 "Also hidden_states.N: 0 the embeddings, the last the output");
  verb->add_flag("--gradients", options->gradients, "Also grad.NAME of the loss for every weight");
  program.run_on(verb, [options, &program] { run_forward(*options, program.global); });
}
