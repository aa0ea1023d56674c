#include "models/input.h"

namespace ondol {

Tensor resolve_positions(const ModelInput& input, const ForwardContext& context, const ModelInfo& info) {
  const Tensor& ids = input.input_ids;
  ONDOL_CHECK(ids.defined() && ids.ndim() == 2 && ids.dtype() == DType::i32, "input_ids must be (B, T) i32");
  const int64_t length = ids.size(1);
  const int64_t end = length + (context.cache != nullptr ? context.cache->max_length() - length : 0);
  ONDOL_CHECK(input.positions.defined() || end <= info.max_positions, "a sequence of ", end,
              " tokens is longer than the model allows (", info.max_positions, " positions)");
  if (context.cache != nullptr) {
    const Tensor& positions = context.cache->positions();
    ONDOL_CHECK(positions.shape() == ids.shape(), "input_ids ", ids.shape(), " for a step of the cache of ",
                positions.shape());
    return positions;
  }
  if (input.positions.defined()) {
    ONDOL_CHECK(input.positions.shape() == ids.shape(), "positions ", input.positions.shape(), " for input_ids ",
                ids.shape());
    return input.positions;
  }
  std::vector<int32_t> positions(static_cast<size_t>(ids.numel()));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i % static_cast<size_t>(length));
  return Tensor::from_vector(positions, ids.shape(), ids.device());
}

RngKey rng_stream(const ForwardContext& context, uint32_t site) {
  RngKey key = context.rng;
  key.stream += site;
  return key;
}

Variable drop(const Variable& x, float p, const ForwardContext& context, uint32_t site, const TokenRows& rows) {
  if (!context.training) return x;
  return functions::dropout(x, p, rows.of_rows(rng_stream(context, site), x.shape()[-1]));
}

Variable close_branch(const Variable& residual, const Variable& x, const Dense& projection, float p,
                      const ForwardContext& context, uint32_t site, const TokenRows& rows) {
  if (!context.training || p == 0.0f) {
    return rows.row_linear(x, {.weight = projection.weight, .bias = projection.bias, .residual = residual});
  }
  const Variable branch = rows.row_linear(x, {.weight = projection.weight, .bias = projection.bias});
  return functions::dropout_add(branch, residual, p, rows.of_rows(rng_stream(context, site), branch.shape()[-1]));
}

void keep_hidden_state(const ForwardContext& context, const Variable& h, const std::string& prefix) {
  if (context.hidden_states == nullptr) return;
  int64_t number = 0;
  for (const auto& [name, tensor] : *context.hidden_states) number += name.starts_with(prefix + ".");
  context.hidden_states->emplace_back(concat(prefix, ".", number), h.value());
}

}  // namespace ondol
