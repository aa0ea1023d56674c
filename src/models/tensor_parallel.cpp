#include <ondol/models/tensor_parallel.h>

#include "models/family.h"

namespace ondol {

void split_model(Model& model, const TensorPlace& place) {
  if (place.ranks == 1) return;
  dynamic_cast<FamilyModel&>(model).split(place);
}

void FamilyModel::check_tensor_ranks(int) const {
  throw UsageError(concat("a ", info_.model_type, " model cannot be split over processes (tensor parallelism)"));
}

void FamilyModel::check_shared_out(const char* key, int64_t count, int ranks) const {
  if (count % ranks == 0) return;
  throw UsageError(
      concat("the model cannot be split over ", ranks, " processes: they do not divide ", key, ", which is ", count));
}

TokenRows FamilyModel::token_rows(const Tensor& tokens, const ForwardContext& context) const {
  const TokenRows rows(tensor_group_, tokens.shape());
  ONDOL_CHECK(!rows.is_split() || context.hidden_states == nullptr,
              "hidden states of layers are not kept where a model is split over processes");
  return rows;
}

void FamilyModel::check_predictions() const {
  if (tensor_group_ == nullptr) return;
  throw UsageError("losses of their own on the scores of tokens cannot be had of a model that is split over processes");
}

void FamilyModel::share_rows(const Variable& parameter, std::vector<int64_t> parts) {
  if (!parameter.defined()) return;
  if (parts.empty()) {
    for (const WeightSlot& slot : slots_) {
      if (!slot.parameter.same_as(parameter)) continue;
      parts.push_back(slot.row_count >= 0 ? slot.row_count : slot.transposed ? slot.shape[1] : slot.shape[0]);
    }
  }
  shares_.push_back({parameter, 0, std::move(parts)});
}

void FamilyModel::share_columns(const Variable& parameter) { shares_.push_back({parameter, 1, {}}); }

void FamilyModel::split(const TensorPlace& place) {
  check_tensor_ranks(place.ranks);
  for (const Share& share : shares_) {
    Shape whole;
    for (const ParameterStore::Entry& entry : parameters_.entries()) {
      if (entry.variable.same_as(share.parameter)) whole = entry.shape;
    }
    const std::vector<int64_t> parts = share.parts.empty() ? std::vector<int64_t>{whole[share.dim]} : share.parts;
    ParameterSplit split = split_parameter(whole, share.dim, parts, place.rank, place.ranks);
    split.copies = place.copies;
    split.copy = place.copy;
    parameters_.split(share.parameter, split);
    for (WeightSlot& slot : slots_) {
      if (slot.parameter.same_as(share.parameter)) split_slot(slot, split);
    }
  }
  tensor_group_ = place.group;
}

/// The ranges of the parameter that lie in the file's tensor.
void FamilyModel::split_slot(WeightSlot& slot, const ParameterSplit& split) {
  slot.split_dim = slot.transposed ? 1 - split.dim : split.dim;
  slot.copies = split.copies;
  slot.copy = split.copy;
  const bool some_rows = split.dim == 0 && slot.row_count >= 0;
  const int64_t begin = some_rows ? slot.row_start : 0;
  const int64_t end = some_rows ? begin + slot.row_count : split.whole[split.dim];
  int64_t place = 0, first = 0, count = 0;  // in what this process holds
  for (const ParameterSplit::Range& range : split.ranges) {
    if (range.begin >= begin && range.begin + range.length <= end) {
      if (count == 0) first = place;
      slot.pieces.push_back({place - first, range.begin - begin, range.length});
      count += range.length;
    }
    place += range.length;
  }
  if (some_rows) {
    slot.row_start = first;
    slot.row_count = count;
  }
}

}  // namespace ondol
