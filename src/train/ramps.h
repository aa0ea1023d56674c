// Sizes of a step that grow within a stage.
//
//   const int64_t batch_size = batch_size_at(stage, step);                  // samples of data.sequence_length
//   Batch batch = cut_rows(loader.next(batch_size), row_parts_at(stage, step));
//
// The batch grows linearly from its start to its full size (as in GPT-3, Brown et al. 2020). The length doubles in
// equal intervals (sequence length warm-up, Li et al. 2022), and meanwhile a sample is several shorter rows, so that
// every step holds the same number of tokens and every token of the data comes as often as without a ramp.
#pragma once

#include <cstdint>

#include <ondol/data/batch.h>
#include <ondol/train/config.h>

namespace ondol {

/// Of step `step` of a stage, counted from 1: a multiple of the micro-batch.
int64_t batch_size_at(const StageConfig& stage, int64_t step);
/// Rows that a sample is cut into in that step, a power of two.
int64_t row_parts_at(const StageConfig& stage, int64_t step);
/// Samples of all steps of a stage.
int64_t count_stage_samples(const StageConfig& stage);

/// The rows of a batch of tokens, each as `parts` rows; positions begin anew where a document was cut.
Batch cut_rows(Batch batch, int64_t parts);

}  // namespace ondol
