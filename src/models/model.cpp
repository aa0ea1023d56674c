#include <ondol/models/model.h>

#include <algorithm>

#include <ondol/autograd/functions.h>
#include <ondol/ops/matmul.h>

#include "backend/backend.h"

namespace ondol {

double ModelInfo::training_flops_per_token(int64_t sequence_length) const {
  return 6.0 * static_cast<double>(matmul_parameters) + 6.0 * static_cast<double>(num_layers) *
                                                            static_cast<double>(hidden_size) *
                                                            static_cast<double>(sequence_length);
}

std::vector<LossScale> mean_scales(const std::vector<int64_t>& counts) {
  std::vector<LossScale> scales;
  for (const int64_t count : counts) scales.emplace_back(1.0 / static_cast<double>(std::max<int64_t>(count, 1)));
  return scales;
}

Variable total_loss(const std::vector<Variable>& terms) {
  Variable total;
  for (const Variable& term : terms) {
    if (term.defined()) total = total.defined() ? functions::add(total, term) : term;
  }
  ONDOL_CHECK(total.defined(), "no targets to compare the model's outputs with");
  return total;
}

OutputProjection Model::output_projection() const {
  throw UsageError(concat("a ", info_.model_type, " model (", info_.architecture, ") does not predict the next token"));
}

void Model::change_rotary_positions(double, int64_t) {
  throw UsageError(concat("a ", info_.model_type, " model has no rotary positions, its length cannot be changed"));
}

void Model::set_bidirectional_prefix(bool) {
  throw UsageError(concat("the attention of a ", info_.model_type, " model (", info_.architecture,
                          ") takes no prefix that is read in both directions"));
}

TokenPredictions Model::predict_tokens(const ModelInput&, const ForwardContext&) {
  throw UsageError(concat("a ", info_.model_type, " model (", info_.architecture, ") does not predict tokens"));
}

Model* Model::attached(const std::string& name) const {
  const auto found = attached_.find(name);
  return found == attached_.end() ? nullptr : found->second.get();
}

void Model::encode(const Tensor&, const std::vector<int32_t>&, KvCache&) {
  throw UsageError(concat("a ", info_.model_type, " model (", info_.architecture, ") has no encoder beside a decoder"));
}

Tensor Model::logits(const Tensor& hidden) const {
  const OutputProjection output = output_projection();
  const NoGrad no_grad;
  functions::LinearInputs inputs;
  inputs.weight = output.weight;
  inputs.bias = output.bias;
  const Tensor scaled = output.scale == 1.0f ? hidden : ops::scale(hidden, output.scale);
  return functions::linear(Variable(scaled), inputs).value();
}

KvCache Model::make_cache(int64_t batch, int64_t capacity) const {
  ONDOL_CHECK(!parameters_.is_split(), "a model that is split over processes cannot decode");
  return KvCache({info_.num_layers, batch, capacity, info_.num_kv_heads, info_.head_dim}, dtype(), device());
}

Device resolve_device(const std::string& name) {
  if (name != "auto") return device_from_name(name);
  const Backend* cuda = find_backend(DeviceType::cuda);
  return cuda != nullptr && cuda->device_count() > 0 ? Device{DeviceType::cuda, 0} : Device{};
}

}  // namespace ondol
