#include <ondol/train/objective.h>

namespace ondol {

ModelInput model_input(const Batch& batch) {
  ModelInput input;
  input.input_ids = batch.input_ids;
  input.attention_mask = batch.attention_mask;
  input.positions = batch.positions;
  input.documents = batch.document_ids;
  input.labels = batch.labels;
  input.labels_shifted = batch.labels_shifted;
  for (const auto& [name, tensor] : batch.others) {
    Tensor* place = input.find(name);
    if (place == nullptr) {
      throw UsageError(concat("samples do not fit: \"", name, "\" is no input of any model (data)"));
    }
    *place = tensor;
  }
  return input;
}

Batch with_input(Batch batch, const ModelInput& prepared) {
  batch.input_ids = prepared.input_ids;
  batch.attention_mask = prepared.attention_mask;
  batch.positions = prepared.positions;
  batch.document_ids = prepared.documents;
  batch.labels = prepared.labels;
  batch.labels_shifted = prepared.labels_shifted;
  batch.others.clear();
  for (const std::string& name : ModelInput::names()) {
    const Tensor& tensor = *prepared.find(name);
    const bool has_field =
        name == "input_ids" || name == "attention_mask" || name == "position_ids" || name == "labels";
    if (tensor.defined() && !has_field) batch.others.emplace_back(name, tensor);
  }
  for (const std::string& name : ModelInput::prepared_names()) {
    if (prepared.find(name)->defined()) batch.others.emplace_back(name, *prepared.find(name));
  }
  return batch;
}

std::shared_ptr<const RecordEncoder> Objective::record_encoder(const RecordContext&) const { return nullptr; }

std::optional<HeadRequest> Objective::head(const Model&, const RecordScan&) const { return std::nullopt; }

std::unique_ptr<Evaluator> Objective::evaluator(const EvaluatorContext&) const { return nullptr; }

void Objective::check_samples(const Batch& example, const ObjectiveContext& context) const {
  context.model.check_shapes(model_input(example), "data");
}

Batch Objective::prepare(Batch batch, const ObjectiveContext& context) const {
  const ModelInput prepared = context.model.prepare(model_input(batch), "data");
  return with_input(std::move(batch), prepared);
}

std::vector<int64_t> Objective::count_targets(const Batch& prepared, const Model& model) const {
  return model.count_targets(model_input(prepared));
}

std::vector<Variable> Objective::losses(Model& model, const Batch& rows, const std::vector<LossScale>& scales,
                                        const ForwardContext& context) const {
  return model.losses(model_input(rows).to(model.device()), scales, context);
}

}  // namespace ondol
