#include <ondol/models/model.h>

#include <ondol/ops/matmul.h>

#include "backend/backend.h"

namespace ondol {

double ModelInfo::training_flops_per_token(int64_t sequence_length) const {
  return 6.0 * static_cast<double>(matmul_parameters) +
         6.0 * static_cast<double>(num_layers) * static_cast<double>(hidden_size) * static_cast<double>(sequence_length);
}

Tensor Model::logits(const Tensor& hidden) const {
  return ops::linear(hidden, {.weight = output_weight().value(), .bias = {}, .activation = {}, .residual = {}});
}

KvCache Model::make_cache(int64_t batch, int64_t capacity) const {
  return KvCache({info_.num_layers, batch, capacity, info_.num_kv_heads, info_.head_dim}, dtype(), device());
}

Device resolve_device(const std::string& name) {
  if (name != "auto") return device_from_name(name);
  const Backend* cuda = find_backend(DeviceType::cuda);
  return cuda != nullptr && cuda->device_count() > 0 ? Device{DeviceType::cuda, 0} : Device{};
}

}  // namespace ondol
