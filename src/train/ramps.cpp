#include "train/ramps.h"

#include <algorithm>
#include <bit>

#include <ondol/base/error.h>

namespace ondol {

int64_t batch_size_at(const StageConfig& stage, int64_t step) {
  const RampConfig& ramp = stage.batch_ramp;
  if (step > ramp.steps) return stage.batch_size;
  const double part = static_cast<double>(step - 1) / static_cast<double>(ramp.steps);
  const auto size =
      static_cast<int64_t>(static_cast<double>(ramp.start) + part * static_cast<double>(stage.batch_size - ramp.start));
  return std::max(size / stage.micro_batch_size * stage.micro_batch_size, ramp.start);
}

int64_t row_parts_at(const StageConfig& stage, int64_t step) {
  const RampConfig& ramp = stage.length_ramp;
  if (step > ramp.steps) return 1;
  const int64_t parts = stage.data.sequence_length / ramp.start;
  const int64_t doublings = std::countr_zero(static_cast<uint64_t>(parts));
  return parts >> ((step - 1) * doublings / ramp.steps);
}

int64_t count_stage_samples(const StageConfig& stage) {
  const int64_t ramped = std::min(stage.batch_ramp.steps, stage.steps);
  int64_t samples = (stage.steps - ramped) * stage.batch_size;
  for (int64_t step = 1; step <= ramped; ++step) samples += batch_size_at(stage, step);
  return samples;
}

Batch cut_rows(Batch batch, int64_t parts) {
  if (parts == 1) return batch;
  ONDOL_CHECK(batch.others.empty() && batch.input_ids.size(1) % parts == 0, "samples of ", batch.input_ids.size(1),
              " positions cannot be cut into ", parts, " rows");
  const int64_t length = batch.input_ids.size(1) / parts;
  const Shape shape{batch.size() * parts, length};
  for (Tensor* tensor :
       {&batch.input_ids, &batch.labels, &batch.attention_mask, &batch.document_ids, &batch.positions}) {
    if (tensor->defined()) *tensor = tensor->reshape(shape);
  }
  batch.first_sample *= parts;
  if (!batch.positions.defined()) return batch;
  int32_t* positions = batch.positions.data<int32_t>();
  for (int64_t row = 0; row < shape[0]; ++row, positions += length) {
    // As long as they count on, the row is still in the document that it begins with.
    const int32_t first = positions[0];
    for (int64_t t = 0; t < length && positions[t] == first + t; ++t) positions[t] = static_cast<int32_t>(t);
  }
  return batch;
}

}  // namespace ondol
