#include "train/ramps.h"

#include <gtest/gtest.h>

#include <ondol/base/error.h>

namespace ondol {
namespace {

StageConfig stage_of(int64_t steps, int64_t batch, int64_t micro_batch) {
  StageConfig stage;
  stage.steps = steps;
  stage.batch_size = batch;
  stage.micro_batch_size = micro_batch;
  stage.data.sequence_length = 64;
  return stage;
}

TEST(Ramps, WithoutThemEveryStepIsTheSame) {
  const StageConfig stage = stage_of(10, 32, 8);
  EXPECT_EQ(batch_size_at(stage, 1), 32);
  EXPECT_EQ(row_parts_at(stage, 1), 1);
  EXPECT_EQ(count_stage_samples(stage), 320);
}

TEST(Ramps, TheBatchGrowsLinearlyInWholeMicroBatches) {
  StageConfig stage = stage_of(100, 40, 8);
  stage.batch_ramp = {8, 64};
  int64_t before = 0, samples = 0;
  for (int64_t step = 1; step <= 100; ++step) {
    const int64_t size = batch_size_at(stage, step);
    EXPECT_EQ(size % 8, 0);
    EXPECT_GE(size, before);
    const double line = step > 64 ? 40.0 : 8.0 + 32.0 * static_cast<double>(step - 1) / 64.0;
    EXPECT_LE(static_cast<double>(size), line);
    EXPECT_GT(static_cast<double>(size), line - 8.0);
    before = size;
    samples += size;
  }
  EXPECT_EQ(batch_size_at(stage, 1), 8);
  EXPECT_EQ(batch_size_at(stage, 65), 40);
  EXPECT_EQ(count_stage_samples(stage), samples);
}

TEST(Ramps, TheLengthDoublesInEqualIntervals) {
  StageConfig stage = stage_of(100, 32, 8);
  stage.length_ramp = {8, 30};  // 8, 16, 32 for ten steps each, then 64
  for (const auto& [step, parts] : {std::pair{1, 8}, {10, 8}, {11, 4}, {20, 4}, {21, 2}, {30, 2}, {31, 1}, {100, 1}}) {
    EXPECT_EQ(row_parts_at(stage, step), parts) << step;
  }
}

TEST(Ramps, RowsAreCutWithoutLoss) {
  Batch batch;
  batch.first_sample = 5;
  batch.input_ids = Tensor::from_vector(std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8}, {1, 8});
  batch.labels = Tensor::from_vector(std::vector<int32_t>{2, 3, -100, 5, 6, 7, 8, 9}, {1, 8});
  batch.document_ids = Tensor::from_vector(std::vector<int32_t>{0, 0, 0, 1, 1, 1, 2, 2}, {1, 8});
  batch.positions = Tensor::from_vector(std::vector<int32_t>{0, 1, 2, 0, 1, 2, 0, 1}, {1, 8});
  const Batch cut = cut_rows(batch, 2);
  EXPECT_EQ(cut.input_ids.shape(), (Shape{2, 4}));
  EXPECT_EQ(cut.input_ids.to_vector<int32_t>(), (std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(cut.labels.to_vector<int32_t>(), (std::vector<int32_t>{2, 3, -100, 5, 6, 7, 8, 9}));
  EXPECT_EQ(cut.document_ids.to_vector<int32_t>(), (std::vector<int32_t>{0, 0, 0, 1, 1, 1, 2, 2}));
  EXPECT_EQ(cut.positions.to_vector<int32_t>(), (std::vector<int32_t>{0, 1, 2, 0, 0, 1, 0, 1}));
  EXPECT_EQ(cut.first_sample, 10);
  batch.others = {{"token_type_ids", batch.document_ids}};
  EXPECT_THROW(cut_rows(batch, 2), Error);
}

}  // namespace
}  // namespace ondol
